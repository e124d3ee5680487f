"""grpc.health.v1.Health: the state of the server, of this service, or of a model by its name."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from mlaas.kernel.errors import Invalid, NotFound
from mlaas.modelserver.grpc.call import Call, Method
from mlaas.modelserver.grpc.codec import Buffer, Parts
from mlaas.modelserver.grpc.messages import HEALTH, SERVICES, message
from mlaas.modelserver.grpc.service import InferenceService
from mlaas.modelserver.grpc.unary import parse, unary

_LOOK = 1.0  # seconds between two looks of a watch


class Health:
    """`service` is "" or the name of a gRPC service for the server as a whole, or the name of a model."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service
        self.methods = {
            f"/{HEALTH}/Check": Method(unary=unary("grpc.health.v1.HealthCheckRequest", self._check)),
            f"/{HEALTH}/Watch": Method(streaming=self._watch),
        }

    def _status(self, name: str, call: Call) -> str:
        if name in ("", *SERVICES):
            return "SERVING" if self._service.dispatch.ready() else "NOT_SERVING"
        served = self._service.model(name, call).version()
        return "SERVING" if self._service.dispatch.model_ready(served) else "NOT_SERVING"

    def _check(self, request: Any, call: Call) -> Any:
        return message("grpc.health.v1.HealthCheckResponse")(status=self._status(request.service, call))

    async def _watch(self, messages: AsyncIterator[Buffer], call: Call) -> AsyncGenerator[Parts, None]:
        """The state now, and again whenever it has changed. An unknown name is watched too: it may come."""
        request = None
        async for payload in messages:
            request = parse(message("grpc.health.v1.HealthCheckRequest"), payload)
            break
        if request is None:
            raise Invalid("The call has no message.")
        before = ""
        while True:
            try:
                now = self._status(request.service, call)
            except NotFound:
                now = "SERVICE_UNKNOWN"
            if now != before:
                before = now
                yield [message("grpc.health.v1.HealthCheckResponse")(status=now).SerializeToString()]
            await asyncio.sleep(_LOOK)
