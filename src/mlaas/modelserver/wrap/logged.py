"""Payload logging: what a client sends and what it is answered goes to the service's payload log."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any

from mlaas.modelserver.payloads import Payloads
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature


class Logged(Predictor):
    """Logs what goes in and out of `inner`. `payloads` belongs to whoever made it. `canaries` are the versions whose answers are
    a canary's; explanations are not logged."""

    def __init__(
        self, inner: Predictor, payloads: Payloads, canaries: frozenset[str] = frozenset(), endpoint: str = "default"
    ) -> None:
        self._inner = inner
        self._payloads = payloads
        self._canaries = canaries
        self._endpoint = endpoint

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        return self._inner.signature

    def wake(self) -> Awaitable[None] | None:
        return self._inner.wake()

    def ready(self) -> bool:
        return self._inner.ready()

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        identity = self._payloads.request(request, self._endpoint)
        answer = self._inner.infer(request)
        if isinstance(answer, Response):
            self._answered(request, [answer], identity)
            return answer
        return self._follow(request, answer, identity)

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        identity = self._payloads.request(request, self._endpoint)
        pieces: list[Response] = []
        async for piece in self._inner.stream(request):
            if self._payloads.responses:
                pieces.append(piece)
            yield piece
        if pieces:
            self._answered(request, pieces, identity)

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        return self._inner.explain(request)

    def status(self) -> dict[str, Any]:
        return self._inner.status() | {"logger": self._payloads.status()}

    def memory(self) -> int:
        return self._inner.memory()

    async def close(self) -> None:
        await self._inner.close()

    async def _follow(self, request: Request, answer: Awaitable[Response], identity: str) -> Response:
        response = await answer
        self._answered(request, [response], identity)
        return response

    def _answered(self, request: Request, answers: list[Response], identity: str) -> None:
        endpoint = "canary" if answers[0].version in self._canaries else self._endpoint
        self._payloads.response(request, answers, identity, endpoint)
