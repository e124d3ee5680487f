"""Dynamic batching: requests of many clients and protocols are answered by one call of the model.

No request waits for company by default: what comes in while the model is busy makes the next batch. With `max_latency` a batch is
held open that long, or until it is full. A model that answers at once is never busy, so it is called directly.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple

import numpy as np

from mlaas.kernel.errors import Error
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature, truncation
from mlaas.modelserver.table import Batcher
from mlaas.modelserver.tensors import Tensor


class _Waiting(NamedTuple):
    request: Request
    rows: int
    answer: asyncio.Future[Response]
    since: int  # time.perf_counter_ns()


class Batched(Predictor):
    """Batches what may share a call: the same outputs and parameters, and inputs of the same trailing shape.

    The rows of a batched model are independent, so the answers are those of single calls. When a batch fails because of what a
    client sent, its requests are tried one by one, and only the bad ones fail. A model that is not batched, or answers at once,
    is called directly. `at_once` calls of the model may run side by side.
    """

    def __init__(self, inner: Predictor, batcher: Batcher, at_once: int = 1) -> None:
        self._inner = inner
        self._rows = max(1, batcher.max_batch_size)
        self._latency = batcher.max_latency / 1000
        self._at_once = at_once
        self._queues: dict[Any, list[_Waiting]] = {}
        self._timers: dict[Any, asyncio.Handle] = {}  # of batches held open
        self._running = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.batches: dict[int, int] = {}  # calls by number of rows

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        return self._inner.signature

    def wake(self) -> Awaitable[None] | None:
        return self._inner.wake()

    def ready(self) -> bool:
        return self._inner.ready()

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        if not self.signature.batched or not request.inputs or request.parameters.get("sequence_id"):
            return self._inner.infer(request)
        rows = request.inputs[0].array.shape[0]
        if rows >= self._rows:
            return self._inner.infer(request)
        if not self._latency and self._running < self._at_once:
            answer = self._inner.infer(request)
            return answer if isinstance(answer, Response) else self._alone(answer, rows)
        return self._wait(request, rows)

    def stream(self, request: Request) -> AsyncIterator[Response]:
        return self._inner.stream(request)

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        return self._inner.explain(request)

    def status(self) -> dict[str, Any]:
        sizes = {str(size): count for size, count in sorted(self.batches.items())}
        return self._inner.status() | {"batches": sizes}

    def memory(self) -> int:
        return self._inner.memory()

    async def close(self) -> None:
        while self._queues or self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)
        await self._inner.close()

    def _alone(self, answer: Awaitable[Response], rows: int) -> asyncio.Task[Response]:
        """A request that found the model idle: the model is busy until its answer."""
        self.batches[rows] = self.batches.get(rows, 0) + 1
        self._running += 1
        task = asyncio.ensure_future(_await(answer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _wait(self, request: Request, rows: int) -> asyncio.Future[Response]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Response] = loop.create_future()
        key = _key(request)
        queue = self._queues.setdefault(key, [])
        queue.append(_Waiting(request, rows, answer, time.perf_counter_ns()))
        if not self._latency:
            return answer  # the end of the running call takes it
        if key not in self._timers:
            self._timers[key] = loop.call_later(self._latency, self._due, key)
        elif sum(waiting.rows for waiting in queue) >= self._rows:
            self._timers.pop(key).cancel()
            self._timers[key] = loop.call_soon(self._due, key)
        return answer

    def _due(self, key: Any) -> None:
        self._timers.pop(key, None)
        if self._running < self._at_once:
            self._start(key)
        # else: the end of the running call takes it

    def _start(self, key: Any) -> None:
        batch = self._take(key)
        if not batch:
            return
        self._running += 1
        task = asyncio.get_running_loop().create_task(self._run(batch))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._running -= 1
        for key in list(self._queues):
            if self._running >= self._at_once:
                return
            if key not in self._timers:
                self._start(key)

    def _take(self, key: Any) -> list[_Waiting]:
        """The next batch of this key: at most the allowed rows, without those whose clients have gone."""
        queue = self._queues.get(key, [])
        batch: list[_Waiting] = []
        rows = taken = 0
        for waiting in queue:
            if batch and rows + waiting.rows > self._rows:
                break
            taken += 1
            if not waiting.answer.done():
                batch.append(waiting)
                rows += waiting.rows
        del queue[:taken]
        if not queue:
            self._queues.pop(key, None)
        return batch

    async def _run(self, batch: list[_Waiting]) -> None:
        rows = sum(waiting.rows for waiting in batch)
        self.batches[rows] = self.batches.get(rows, 0) + 1
        started = time.perf_counter_ns()
        try:
            request = batch[0].request if len(batch) == 1 else _merge([waiting.request for waiting in batch])
            answer = await _answer(self._inner, request)
        except Exception as error:
            if len(batch) == 1 or not isinstance(error, Error) or error.status >= 500:
                _fail(batch, error)
            else:
                for waiting in batch:
                    await self._run([waiting])
            return
        compute = time.perf_counter_ns() - started
        for place, (waiting, response) in enumerate(
            zip(batch, _split(answer, [waiting.rows for waiting in batch]), strict=True)
        ):
            response.timing = (started - waiting.since, compute)
            response.batch = rows if place == 0 else 0
            if not waiting.answer.done():
                waiting.answer.set_result(response)


async def _await(answer: Awaitable[Response]) -> Response:
    return await answer


async def _answer(predictor: Predictor, request: Request) -> Response:
    answer = predictor.infer(request)
    return answer if isinstance(answer, Response) else await answer


def _key(request: Request) -> Any:
    shapes = tuple((tensor.datatype, tensor.array.shape[1:]) for tensor in request.inputs)
    parameters = tuple(sorted((name, str(value)) for name, value in request.parameters.items()))
    return shapes, None if request.outputs is None else tuple(request.outputs), parameters


def _merge(requests: list[Request]) -> Request:
    first = requests[0]
    inputs = [
        Tensor(tensor.name, np.concatenate([request.inputs[place].array for request in requests]), tensor.datatype)
        for place, tensor in enumerate(first.inputs)
    ]
    deadlines = [request.deadline for request in requests if request.deadline is not None]
    return Request(
        inputs,
        first.outputs,
        parameters=first.parameters,
        headers=first.headers,
        deadline=max(deadlines) if len(deadlines) == len(requests) else None,
        protocol=first.protocol,
    )


def _split(answer: Response, rows: list[int]) -> list[Response]:
    if len(rows) == 1:
        return [answer]
    found, start = [], 0
    for count in rows:
        outputs = [
            Tensor(tensor.name, tensor.array[start : start + count], tensor.datatype) for tensor in answer.outputs
        ]
        parameters = answer.parameters
        if answer.cut is not None:  # of its own texts only
            parameters = truncation(answer.cut[start : start + count], parameters["max_length"])
        found.append(Response(outputs, parameters, answer.version, answer.model))
        start += count
    return found


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
