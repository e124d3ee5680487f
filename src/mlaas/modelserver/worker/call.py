"""One request on its way through a pool: waiting, in a worker, answered."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from mlaas.kernel.errors import Error
from mlaas.modelserver.predictor import Request, Response, response_of
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker import frames


class Working(Protocol):
    """What works on a call: a worker process."""

    def cancel(self, call: "Call") -> None:
        """Nobody waits for its answer any more."""

    def credit(self, call: "Call") -> None:
        """The reader of its stream took half a window of pieces."""


class Call:
    """Until `deadline` (time.monotonic) somebody waits for it: the client says how long, and the model's time limit does.
    `limit` is set when it goes to a worker: one that goes past it hangs."""

    __slots__ = ("answer", "deadline", "dispatched", "id", "limit", "outputs", "queued", "request", "verb", "worker")

    def __init__(
        self, id: int, request: Request, verb: int, outputs: list[int], timeout: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.id = id
        self.request = request
        self.verb = verb
        self.outputs = outputs
        self.queued = time.perf_counter_ns()
        self.dispatched = 0
        self.limit = time.monotonic() + timeout
        self.deadline = self.limit if request.deadline is None else min(self.limit, request.deadline)
        self.answer: asyncio.Future[Response] = loop.create_future()
        self.worker: Working | None = None

    @property
    def over(self) -> bool:
        """Nobody waits for it any more."""
        return self.answer.done()

    def take(self, outputs: list[Tensor], parameters: Mapping[str, Any], nanoseconds: int) -> None:
        """The answer (or a piece of it) is here."""
        if not self.answer.done():
            self.answer.set_result(self._response(outputs, parameters, nanoseconds))

    def _response(self, outputs: list[Tensor], parameters: Mapping[str, Any], nanoseconds: int) -> Response:
        waited = self.dispatched - self.queued
        return response_of(outputs, parameters, (waited, nanoseconds))

    def fail(self, error: Error) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def end(self) -> None:
        """It was cancelled, and the worker is done with it."""
        if not self.answer.done():
            self.answer.cancel()


class Stream(Call):
    """A call whose answer comes in pieces. The worker is never more than a window ahead of the reader."""

    __slots__ = ("_arrived", "_error", "_finished", "_pieces", "_taken")

    def __init__(
        self, id: int, request: Request, outputs: list[int], timeout: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(id, request, frames.STREAM, outputs, timeout, loop)
        self._pieces: deque[Response] = deque()
        self._arrived = asyncio.Event()
        self._finished = False
        self._error: Error | None = None
        self._taken = 0

    @property
    def over(self) -> bool:
        return self._finished

    def take(self, outputs: list[Tensor], parameters: Mapping[str, Any], nanoseconds: int) -> None:
        self._pieces.append(self._response(outputs, parameters, nanoseconds))
        self._arrived.set()

    def fail(self, error: Error) -> None:
        if not self._finished:
            self._finished, self._error = True, error
            self._arrived.set()

    def end(self) -> None:
        self._finished = True
        self._arrived.set()

    async def next(self) -> Response | None:
        """The next piece, None after the last. Raises what ended the stream."""
        while not self._pieces:
            if self._finished:
                if self._error is not None:
                    raise self._error
                return None
            self._arrived.clear()
            await self._arrived.wait()
        piece = self._pieces.popleft()
        self._taken += 1
        if self._taken % (frames.WINDOW // 2) == 0 and self.worker is not None:
            self.worker.credit(self)
        return piece
