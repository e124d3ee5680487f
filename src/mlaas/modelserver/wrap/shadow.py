"""Shadow traffic: a second deployment sees what the first one is asked, and its answers are compared."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import numpy as np

from mlaas.modelserver.conform import conform
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature

_AT_ONCE = 64


class Shadow(Predictor):
    """Sends a copy of each request to a second deployment and compares the answers.

    Clients never notice it: at most 64 copies run at once, further ones are counted as dropped. `tolerance` is relative and
    absolute, for floating-point outputs; all others must be equal.
    """

    def __init__(self, inner: Predictor, shadow: Predictor, tolerance: float = 1e-4) -> None:
        self._inner = inner
        self._shadow = shadow
        self._tolerance = tolerance
        self._running: set[asyncio.Task[None]] = set()
        self.counts = {"equal": 0, "different": 0, "failed": 0, "dropped": 0}
        self.largest = 0.0  # absolute difference seen

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        return self._inner.signature

    def wake(self) -> Awaitable[None] | None:
        return self._inner.wake()

    def ready(self) -> bool:
        return self._inner.ready()

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        copy = Request(request.inputs, request.outputs, request.id, request.parameters, request.headers)
        answer = self._inner.infer(request)
        if isinstance(answer, Response):
            self._compare(copy, answer)
            return answer
        return self._follow(copy, answer)

    def stream(self, request: Request) -> AsyncIterator[Response]:
        return self._inner.stream(request)

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        return self._inner.explain(request)

    def status(self) -> dict[str, Any]:
        shadow = self._shadow.status() | {"answers": dict(self.counts), "largest_difference": self.largest}
        return self._inner.status() | {"shadow": shadow}

    def memory(self) -> int:
        return self._inner.memory() + self._shadow.memory()

    async def _follow(self, copy: Request, answer: Awaitable[Response]) -> Response:
        response = await answer
        self._compare(copy, response)
        return response

    def _compare(self, copy: Request, answer: Response) -> None:
        if len(self._running) >= _AT_ONCE:
            self.counts["dropped"] += 1
            return
        task = asyncio.get_running_loop().create_task(self._run(copy, answer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, copy: Request, answer: Response) -> None:
        try:
            waiting = self._shadow.wake()
            if waiting is not None:
                await waiting
            other = self._shadow.infer(conform(copy, self._shadow.signature))
            response = other if isinstance(other, Response) else await other
        except Exception:  # the shadow's troubles are its own: counted, never a client's
            self.counts["failed"] += 1
            return
        self.counts["equal" if self._same(answer, response) else "different"] += 1

    def _same(self, one: Response, other: Response) -> bool:
        if [(tensor.name, tensor.array.shape) for tensor in one.outputs] != [
            (tensor.name, tensor.array.shape) for tensor in other.outputs
        ]:
            return False
        return all(
            self._alike(mine.array, theirs.array) for mine, theirs in zip(one.outputs, other.outputs, strict=True)
        )

    def _alike(self, mine: Any, theirs: Any) -> bool:
        if mine.dtype.kind != "f" or theirs.dtype.kind != "f":
            return bool(np.array_equal(mine, theirs))
        if mine.size:
            self.largest = max(self.largest, float(np.nanmax(np.abs(mine - theirs), initial=0.0)))
        return bool(np.allclose(mine, theirs, rtol=self._tolerance, atol=self._tolerance, equal_nan=True))
