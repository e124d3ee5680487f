"""The workers of one model as a Predictor: requests wait in one bounded queue and go to the least loaded worker.

A worker that dies takes with it only the requests that it was working on; another one starts, later each time it happens. A model
whose workers die five times in a row without an answer between is set aside for a while, and says so.
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Error, Unavailable
from mlaas.modelserver.errors import Crashed, NotReady, Throttled, TimedOut
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.worker import frames
from mlaas.modelserver.worker.call import Call, Stream
from mlaas.modelserver.worker.log import Log
from mlaas.modelserver.worker.order import Order
from mlaas.modelserver.worker.process import Worker
from mlaas.modelserver.worker.spares import Spares

CRASHES = 5
"""Deaths in a row, without an answer between, after which a model is set aside."""
_TICK = 0.05  # seconds between looks at deadlines
_MEMORY_TICK = 0.5
_BACK_OFF = (0.0, 0.2, 0.5, 1.0, 2.0)  # seconds before a restart, by deaths in a row
_ASIDE = (30.0, 60.0, 120.0, 300.0, 600.0)  # seconds a model is set aside, by how often in a row
_GRACE = 0.5  # seconds that an asynchronous model has to give up a request


class Pool(Predictor):
    """`size` workers. `concurrency`: requests at once in one worker of an asynchronous model (0: no limit); a synchronous model
    gets one at a time. `queue`: how many requests may wait; one more is Throttled. `timeout`: seconds one request may take.
    """

    def __init__(
        self,
        order: Order,
        *,
        size: int = 1,
        concurrency: int = 0,
        queue: int = 1000,
        timeout: float = 60.0,
        logs: Path | None = None,
        spares: Spares | None = None,
    ) -> None:
        self.order = order
        self._size = size
        self._concurrency = concurrency
        self._queue = queue
        self._timeout = timeout
        self._logs_folder = logs
        self._spares = spares
        self._logs: dict[int, Log] = {}
        self._workers: dict[int, Worker] = {}  # by replica number
        self._leaving: set[Worker] = set()
        self._waiting: OrderedDict[int, Call] = OrderedDict()
        self._next = 0
        self._crashes = 0
        self._aside = 0
        self._aside_until = 0.0  # time.monotonic()
        self._restarts = 0
        self._last_error = ""
        self.changed: Callable[[], None] = lambda: None
        """Called when the model is set aside, and when it is tried again."""
        self.notes: dict[str, Any] = {}  # further entries of the status: why it is not compiled
        self._closed = False
        self._ticking = False
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._memory_timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Start the first worker and wait for it; the others follow. Raises what the model's opening raised, with the worker's
        last lines as notes, or Unavailable when no process can be started."""
        worker = self._launch(0)
        try:
            await worker.opened()
        except BaseException as error:
            await self.close()
            for line in worker.log.lines:
                error.add_note(line)
            raise
        assert worker.signature is not None
        self.signature = worker.signature
        self._fill()
        if self.order.memory:
            self._watch_memory()

    def slots(self) -> int:
        """What its ready workers take at once; 1 while there is none."""
        return max(
            1, sum(self._room(worker) for worker in self._workers.values() if worker.ready and not worker.leaving)
        )

    def limit(self, concurrency: int) -> None:
        """Give each worker of an asynchronous model so many requests at once (0: no limit)."""
        self._concurrency = concurrency
        self._pump()

    # -- requests ------------------------------------------------------------------------------------------------------

    def infer(self, request: Request) -> asyncio.Future[Response]:
        return self._answer(request, frames.INFER)

    def explain(self, request: Request) -> asyncio.Future[Response]:
        return self._answer(request, frames.EXPLAIN)

    def stream(self, request: Request) -> AsyncIterator[Response]:
        return self._pieces(request)

    def _answer(self, request: Request, verb: int) -> asyncio.Future[Response]:
        call = self._enqueue(Call, request, verb)
        call.answer.add_done_callback(partial(self._gone, call))
        return call.answer

    def _gone(self, call: Call, answer: asyncio.Future[Response]) -> None:
        if answer.cancelled():
            self._abandon(call)

    async def _pieces(self, request: Request) -> AsyncIterator[Response]:
        call = self._enqueue(Stream, request, frames.STREAM)
        assert isinstance(call, Stream)
        try:
            while (piece := await call.next()) is not None:
                yield piece
        finally:
            if not call.over:
                self._abandon(call)

    def _enqueue(self, kind: type[Call], request: Request, verb: int) -> Call:
        if self._closed:
            raise NotReady(f"Model '{self.order.name}' is being unloaded.")
        if self._aside_until:
            raise self._set_aside()
        outputs = [
            i
            for i, spec in enumerate(self.signature.outputs)
            if (spec.default if request.outputs is None else spec.name in request.outputs)
        ]
        if request.outputs is not None and len(outputs) > 1:
            order = {name: i for i, name in enumerate(request.outputs)}
            outputs.sort(key=lambda i: order[self.signature.outputs[i].name])
        self._next = (self._next + 1) & 0x7FFFFFFF or 1
        call: Call
        if kind is Stream:
            call = Stream(self._next, request, outputs, self._timeout, self._loop)
        else:
            call = Call(self._next, request, verb, outputs, self._timeout, self._loop)
        worker = None if self._waiting else self._free()
        if worker is not None:
            self._send(worker, call)
        elif len(self._waiting) >= self._queue:
            raise Throttled(f"{len(self._waiting)} requests already wait for model '{self.order.name}'.")
        else:
            self._waiting[call.id] = call
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK, self._tick)
        return call

    def _free(self) -> Worker | None:
        """The least loaded worker that can take a request."""
        best, least = None, 1 << 30
        for worker in self._workers.values():
            if worker.ready and not worker.leaving:
                load = len(worker.calls)
                if load < least and load < self._room(worker):
                    best, least = worker, load
        return best

    def _room(self, worker: Worker) -> int:
        return (self._concurrency or 1 << 30) if worker.concurrent else 1

    def _send(self, worker: Worker, call: Call) -> None:
        call.worker = worker
        call.limit = time.monotonic() + self._timeout
        worker.send(call)

    def _on_free(self, worker: Worker) -> None:
        self._crashes = 0
        self._aside = 0
        self._pump()
        if worker.leaving and not worker.calls:
            self._spawn(worker.close())

    def _pump(self) -> None:
        while self._waiting:
            worker = self._free()
            if worker is None:
                return
            _, call = self._waiting.popitem(last=False)
            if not call.over:
                self._send(worker, call)

    def _abandon(self, call: Call) -> None:
        """Nobody waits for it any more."""
        if self._waiting.pop(call.id, None) is None and call.worker is not None:
            call.worker.cancel(call)
        call.end()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        late = [call for call in self._waiting.values() if call.over or now >= call.deadline]
        for call in late:
            del self._waiting[call.id]
            call.fail(TimedOut(f"The request waited until its deadline for a worker of model '{self.order.name}'."))
        busy = bool(self._waiting)
        for worker in list(self._workers.values()) + list(self._leaving):
            for call in list(worker.calls.values()):
                busy = True
                if now >= call.limit:
                    self._too_long(worker, call, now)
                elif not call.over and now >= call.deadline:
                    call.fail(TimedOut(f"Model '{self.order.name}' did not answer before the request's deadline."))
                    worker.cancel(call)
        self._ticking = busy
        if busy:
            self._loop.call_later(_TICK, self._tick)

    def _too_long(self, worker: Worker, call: Call, now: float) -> None:
        text = f"Model '{self.order.name}' did not answer within {self._timeout:g} s."
        call.fail(TimedOut(text, hint="`timeout` of the model is how long a request may take."))
        if worker.concurrent and now < call.limit + _GRACE:
            worker.cancel(call)  # others run beside it: it may give up alone
        else:
            worker.kill(f"It was killed because a request took more than {self._timeout:g} s.")

    # -- the workers' lives --------------------------------------------------------------------------------------------

    def _launch(self, number: int) -> Worker:
        log = self._logs.get(number)
        if log is None:
            path = self._logs_folder / f"worker-{number}.log" if self._logs_folder is not None else None
            log = self._logs[number] = Log(f"{self.order.name}/{number}", path)
        worker = Worker(self.order, log, self._on_free, self._on_end, self._spares)
        try:
            worker.start()
        except OSError as error:
            raise Unavailable(f"A worker of model '{self.order.name}' cannot be started: {error.strerror}.") from error
        self._workers[number] = worker
        return worker

    def _fill(self) -> None:
        """Start the workers that are missing, and let go of those that are too many."""
        if self._closed or self._aside_until:
            return
        for number in range(self._size):
            if number not in self._workers:
                try:
                    worker = self._launch(number)
                except Unavailable as error:
                    self._last_error = error.message
                    self._loop.call_later(_BACK_OFF[-1], self._fill)
                    return
                self._spawn(self._welcome(worker))
        for number in [number for number in self._workers if number >= self._size]:
            worker = self._workers.pop(number)
            worker.leaving = True
            self._leaving.add(worker)
            if not worker.calls:
                self._spawn(worker.close())

    async def _welcome(self, worker: Worker) -> None:
        try:
            await worker.opened()
        except Error as error:
            self._last_error = error.message
            return
        self._pump()

    def _on_end(self, worker: Worker, why: str) -> None:
        calls, worker.calls = list(worker.calls.values()), {}
        for call in calls:
            error = Crashed(
                f"The worker of model '{self.order.name}' ended while it worked on this request: {why}",
                hint="Another worker takes over; try again.",
            )
            call.fail(error)
        self._leaving.discard(worker)
        number = next((number for number, each in self._workers.items() if each is worker), None)
        if number is None or self._closed:
            return
        del self._workers[number]
        self._last_error = why
        self._crashes += 1
        self._restarts += 1
        if self._crashes >= CRASHES:
            self._put_aside()
        else:
            self._loop.call_later(_BACK_OFF[self._crashes - 1], self._fill)

    def _put_aside(self) -> None:
        pause = _ASIDE[min(self._aside, len(_ASIDE) - 1)]
        self._aside += 1
        self._aside_until = time.monotonic() + pause
        for worker in self._workers.values():
            worker.kill("It was ended because its model is set aside.")
            self._leaving.add(worker)
        self._workers = {}
        while self._waiting:
            self._waiting.popitem(last=False)[1].fail(self._set_aside())
        self._loop.call_later(pause, self._try_again)
        self.changed()

    def _try_again(self) -> None:
        """One more death puts it aside again, for longer."""
        self._aside_until = 0.0
        self._crashes = CRASHES - 1
        self._fill()
        self.changed()

    def _set_aside(self) -> NotReady:
        left = max(1.0, self._aside_until - time.monotonic())
        error = NotReady(
            f"Model '{self.order.name}' is set aside after {CRASHES} crashes in a row. The last: {self._last_error} "
            f"It is tried again in {left:.0f} s.",
            hint="The log of its worker says more.",
        )
        error.retry_after = left
        return error

    def aside(self) -> str:
        """Why it is set aside; "" where it is not."""
        return f"set aside after {CRASHES} crashes in a row. The last: {self._last_error}" if self._aside_until else ""

    def _watch_memory(self) -> None:
        """Where no control group limits it: look now and then, and end a worker that has more than its limit."""
        for worker in self._workers.values():
            if worker.memory() > self.order.memory:
                limit = self.order.memory / (1 << 20)
                worker.kill(f"It was killed because it used more memory than its limit of {limit:.0f} MiB.")
        self._memory_timer = self._loop.call_later(_MEMORY_TICK, self._watch_memory)

    def resize(self, size: int) -> None:
        """Have `size` workers. Those that are too many finish what they work on; with none, requests wait."""
        if size < 0:
            raise ValueError("a pool has no negative size")
        self._size = size
        self._fill()

    @property
    def size(self) -> int:
        """How many workers it is to have."""
        return self._size

    def load(self) -> tuple[int, int]:
        """(requests in workers, requests that wait): what an autoscaler looks at."""
        working = sum(len(worker.calls) for worker in [*self._workers.values(), *self._leaving])
        return working, len(self._waiting)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- what it says of itself ----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        working, waiting = self.load()
        found: dict[str, Any] = {
            "format": self.order.format,
            "compiled": False,
            "device": self.order.device,
            "workers": [self._worker_status(number, worker) for number, worker in sorted(self._workers.items())],
            "restarts": self._restarts,
            "in_flight": working,
            "waiting": waiting,
            **self.notes,
        }
        if self._last_error:
            found["last_error"] = self._last_error
        if self._aside_until:
            found["set_aside"] = round(
                max(0.0, self._aside_until - time.monotonic()), 1
            )  # seconds until it is tried again
        return found

    def _worker_status(self, number: int, worker: Worker) -> dict[str, Any]:
        return {
            "replica": number,
            "pid": worker.pid,
            "state": "leaving" if worker.leaving else "ready" if worker.ready else "loading",
            "started": worker.started,
            "memory": worker.memory(),
            "in_flight": len(worker.calls),
        }

    def logs(self, lines: int = 200) -> dict[int, list[str]]:
        """The last lines of each replica's log."""
        return {number: list(log.lines)[-lines:] for number, log in self._logs.items()}

    def tails(self) -> dict[str, Any]:
        return {str(number): {"total": log.total, "lines": list(log.lines)} for number, log in self._logs.items()}

    def memory(self) -> int:
        return sum(worker.memory() for worker in self._workers.values())

    async def close(self) -> None:
        """End all workers. Requests that wait are refused; those being worked on should have been waited for."""
        self._closed = True
        if self._memory_timer is not None:
            self._memory_timer.cancel()
        while self._waiting:
            self._waiting.popitem(last=False)[1].fail(NotReady(f"Model '{self.order.name}' is being unloaded."))
        workers = [*self._workers.values(), *self._leaving]
        await asyncio.gather(*(worker.close() for worker in workers))
        await asyncio.gather(*self._tasks)
        for log in self._logs.values():
            log.close()


def threads(workers: int) -> int:
    """Threads for the numeric libraries of each of so many workers."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, workers))
