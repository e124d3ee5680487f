"""A transformer around a predictor: pre- and post-processing by a Python class of the user's, or by a remote server.

The class runs in a worker process, as every foreign code does (formats/transformer.py says what it looks like). A remote
transformer is a V2 server with the models `preprocess` and `postprocess`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import msgspec

from mlaas.modelserver.conform import conform
from mlaas.modelserver.formats.base import METHOD
from mlaas.modelserver.load import TRANSFORMER, Loader
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature
from mlaas.modelserver.spans import Span
from mlaas.modelserver.table import Deployment, Transformer
from mlaas.modelserver.wrap.unit import Unit

FREE = Signature(inputs=(), outputs=(), batched=False, platform="transformer")
"""What a transformer takes when it does not say: anything."""


class Transformed(Predictor):
    """`postprocess(predict(preprocess(request)))`. The headers and parameters of the request travel through all three."""

    def __init__(self, inner: Predictor, transformer: Transformer, loader: Loader) -> None:
        self._inner = inner
        deployment = Deployment(
            revision="transformer",
            source=transformer.source,
            format="" if transformer.remote is not None else TRANSFORMER,
            remote=transformer.remote,
            environment=transformer.environment,
            trusted=transformer.trusted,
        )
        if transformer.remote is None:
            self._pre = self._post = Unit(deployment, loader)
        else:
            self._pre, self._post = (
                Unit(
                    msgspec.structs.replace(
                        deployment, remote=msgspec.structs.replace(transformer.remote, model_name=method)
                    ),
                    loader,
                )
                for method in ("preprocess", "postprocess")
            )

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        own = self._pre.signature
        return own if own.inputs else FREE

    def wake(self) -> Awaitable[None] | None:
        waiting = [found for each in (self._pre, self._post, self._inner) if (found := each.wake()) is not None]
        return _all(waiting) if waiting else None

    def ready(self) -> bool:
        return self._inner.ready()

    async def infer(self, request: Request) -> Response:
        prepared = await self._prepare(request)
        answer = self._inner.infer(prepared)
        response = answer if isinstance(answer, Response) else await answer
        return await self._finish(request, response)

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        async for piece in self._inner.stream(await self._prepare(request)):
            yield await self._finish(request, piece)

    async def explain(self, request: Request) -> Response:
        answer = self._inner.explain(await self._prepare(request))
        return answer if isinstance(answer, Response) else await answer

    def status(self) -> dict[str, Any]:
        return self._inner.status() | {"transformer": self._pre.status()}

    def tails(self) -> dict[str, Any]:
        return {f"transformer/{number}": tail for number, tail in self._pre.tails().items()}

    def memory(self) -> int:
        return self._inner.memory() + self._pre.memory()

    async def close(self) -> None:
        await asyncio.gather(self._pre.close(), self._post.close(), self._inner.close())

    async def _prepare(self, request: Request) -> Request:
        prepared = await self._call(self._pre, "preprocess", request)
        inputs = Request(prepared.outputs, None, request.id, request.parameters, request.headers, request.deadline)
        inputs.protocol = request.protocol
        return conform(inputs, self._inner.signature)

    async def _finish(self, request: Request, response: Response) -> Response:
        given = Request(response.outputs, None, request.id, request.parameters, request.headers, request.deadline)
        finished = await self._call(self._post, "postprocess", given)
        finished.version, finished.model, finished.timing = response.version, response.model, response.timing
        return finished

    async def _call(self, unit: Unit, method: str, request: Request) -> Response:
        parameters = {**request.parameters, METHOD: method}
        with Span(method, request) as span:
            asked = Request(request.inputs, None, request.id, parameters, span.headers, request.deadline)
            answer = unit.infer(asked)
            return answer if isinstance(answer, Response) else await answer


async def _all(waiting: list[Awaitable[None]]) -> None:
    await asyncio.gather(*waiting)
