"""Dynamic batching: requests of many clients and protocols are answered by one call of the model.

No request waits for company by default: what comes in while the model is busy makes the next batch. With `max_latency` a batch is
held open that long, or until it is full. A model that answers at once is never busy, so it is called directly; so is one that
takes any number of calls side by side.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple

import numpy as np

from mlaas.kernel.errors import Error
from mlaas.modelserver.errors import Failed, Throttled
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature, truncation
from mlaas.modelserver.table import Batcher
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.wrap.scale import Demand

MOST = 10_000
"""Requests that run in or wait for one model; one more is Throttled."""

_LOOK_AGAIN = 0.1  # seconds after which it is asked whether another replica has come meanwhile
_OF_THE_WIRE = frozenset(("binary_data_output", "timeout", "priority", "triton_enable_empty_final_response"))
"""Parameters that tell the server how to answer, not the model what."""


class _Waiting(NamedTuple):
    request: Request
    rows: int
    answer: asyncio.Future[Response]
    since: int  # time.perf_counter_ns()


class Batched(Predictor):
    """Batches what may share a call: the same outputs and parameters, and inputs of the same trailing shape.

    The rows of a batched model are independent, so the answers are those of single calls. When a call of several requests fails,
    or does not give a row for each row, its halves are tried, down to single requests: only the bad ones fail. What ended the
    worker, or took too long, is not tried again. A model that is not batched, or answers at once, is called directly. As many
    calls run side by side as the model has `slots`.
    """

    def __init__(self, inner: Predictor, batcher: Batcher, demand: Demand | None = None) -> None:
        self._inner = inner
        self._rows = max(1, batcher.max_batch_size)
        self._latency = batcher.max_latency / 1000
        self._demand = demand or Demand()
        self._queues: dict[Any, list[_Waiting]] = {}
        self._timers: dict[Any, asyncio.Handle] = {}  # of batches held open
        self._look: asyncio.TimerHandle | None = None
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
        if not self._latency and not self._queues and self._running < self._inner.slots():
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
        self._count(rows)
        self._demand.now += 1
        task = asyncio.ensure_future(_await(answer))
        task.add_done_callback(self._left)
        self._run_beside(task)
        return task

    def _wait(self, request: Request, rows: int) -> asyncio.Future[Response]:
        if self._demand.now >= MOST:
            raise Throttled(f"{MOST} requests already wait for this model.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Response] = loop.create_future()
        self._demand.now += 1
        answer.add_done_callback(self._left)
        key = self._key(request)
        queue = self._queues.setdefault(key, [])
        queue.append(_Waiting(request, rows, answer, time.perf_counter_ns()))
        if not self._latency:
            self._pump()  # else the end of a running call takes it
        elif key not in self._timers:
            self._timers[key] = loop.call_later(self._latency, self._due, key)
        elif sum(waiting.rows for waiting in queue) >= self._rows:
            self._timers.pop(key).cancel()
            self._timers[key] = loop.call_soon(self._due, key)
        return answer

    def _left(self, answer: asyncio.Future[Response]) -> None:
        self._demand.now -= 1

    def _due(self, key: Any) -> None:
        self._timers.pop(key, None)
        self._pump()

    def _pump(self) -> None:
        """Start what may run now, each kind of request in its turn."""
        for key in list(self._queues):
            if self._running >= self._inner.slots():
                break
            if key not in self._timers:
                self._start(key)
        if self._queues and self._running and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._pump()

    def _start(self, key: Any) -> None:
        batch = self._take(key)
        if batch:
            self._run_beside(asyncio.get_running_loop().create_task(self._run(batch)))

    def _run_beside(self, task: asyncio.Task[Any]) -> None:
        self._running += 1
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._running -= 1
        self._pump()

    def _take(self, key: Any) -> list[_Waiting]:
        """The next batch of this key: at most the allowed rows, without those whose clients have gone."""
        queue = self._queues.pop(key, [])
        batch: list[_Waiting] = []
        rows = taken = 0
        for waiting in queue:
            if batch and rows + waiting.rows > self._rows:
                break
            taken += 1
            if not waiting.answer.done():
                batch.append(waiting)
                rows += waiting.rows
        if taken < len(queue):
            self._queues[key] = queue[taken:]  # behind the other kinds of requests
        return batch

    async def _run(self, batch: list[_Waiting]) -> None:
        rows = sum(waiting.rows for waiting in batch)
        self._count(rows)
        self._demand.requests += len(batch) - 1  # the call itself is counted where it arrives
        started = time.perf_counter_ns()
        try:
            request = batch[0].request if len(batch) == 1 else _merge([waiting.request for waiting in batch])
            answer = await _answer(self._inner, request)
            if len(batch) > 1:
                _check(answer, rows)
        except Exception as error:
            await self._failed(batch, error)
            return
        compute = time.perf_counter_ns() - started
        counts = rows
        for waiting, response in zip(batch, _split(answer, [waiting.rows for waiting in batch]), strict=True):
            if not waiting.answer.done():
                response.timing = (started - waiting.since, compute)
                response.batch, counts = counts, 0  # one of them counts the call
                waiting.answer.set_result(response)

    async def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        """Answer with the error, or find whose it is."""
        batch = [waiting for waiting in batch if not waiting.answer.done()]
        if len(batch) > 1 and _of_a_row(error):
            middle = len(batch) // 2
            await self._run(batch[:middle])
            await self._run(batch[middle:])
            return
        for waiting in batch:
            waiting.answer.set_exception(error)

    def _count(self, rows: int) -> None:
        self.batches[rows] = self.batches.get(rows, 0) + 1

    def _key(self, request: Request) -> Any:
        shapes = tuple((tensor.datatype, tensor.array.shape[1:]) for tensor in request.inputs)
        parameters = tuple(
            sorted((name, str(value)) for name, value in request.parameters.items() if name not in _OF_THE_WIRE)
        )
        outputs = None if request.outputs is None else tuple(request.outputs)
        if outputs == tuple(spec.name for spec in self.signature.outputs if spec.default):
            outputs = None  # clients that name all outputs and those that name none ask for the same
        return shapes, outputs, parameters


async def _await(answer: Awaitable[Response]) -> Response:
    return await answer


async def _answer(predictor: Predictor, request: Request) -> Response:
    answer = predictor.infer(request)
    return answer if isinstance(answer, Response) else await answer


def _of_a_row(error: Exception) -> bool:
    """Whether one of the rows may be to blame: what a client sent, or an error that the model raised."""
    return not isinstance(error, Error) or isinstance(error, Failed) or error.status in (400, 422)


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


def _check(answer: Response, rows: int) -> None:
    """Raises Failed for a model that says it is batched and gives not a row for each row."""
    for tensor in answer.outputs:
        if tensor.array.shape[:1] != (rows,):
            raise Failed(
                f"The model was given {rows} rows and gave '{tensor.name}' with the shape {list(tensor.array.shape)}."
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
