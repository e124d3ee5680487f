"""One worker process as the front sees it: start, requests out, answers in, its end and why."""

import asyncio
import contextlib
import json
import os
import signal
import time
import weakref
from collections.abc import Callable
from typing import Any

from mlaas.kernel import cgroup
from mlaas.kernel.errors import Error, Invalid, NotFound, OutOfMemory
from mlaas.modelserver import signature as signatures
from mlaas.modelserver.errors import Failed, NotReady, Unexplained
from mlaas.modelserver.predictor import Signature
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker import arena, frames
from mlaas.modelserver.worker.call import Call
from mlaas.modelserver.worker.log import Log
from mlaas.modelserver.worker.order import Order
from mlaas.modelserver.worker.spares import Spares
from mlaas.modelserver.worker.spawn import spawn

_CHUNK = 256 << 10
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ERRORS: dict[str, type[Error]] = {
    each.code: each for each in (Invalid, NotFound, OutOfMemory, Failed, Unexplained, NotReady)
}


class Worker:
    """A process that serves one model. `on_free` is called when it can take another request, `on_end` (once) with its end in
    words after it is gone; the calls it was working on are then still in `calls`. It is one of `spares` where one waits.
    """

    def __init__(
        self,
        order: Order,
        log: Log,
        on_free: Callable[["Worker"], None],
        on_end: Callable[["Worker", str], None],
        spares: Spares | None = None,
    ) -> None:
        self.order = order
        self.log = log
        self.calls: dict[int, Call] = {}
        self.ready = False
        self.leaving = False  # gets no further requests, ends when it has none
        self.signature: Signature | None = None
        self.concurrent = False
        self.started = time.time()
        self.why = ""  # why it is being killed, when it is us who do that
        self._spares = spares
        self._on_free = on_free
        self._on_end = on_end
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._places: dict[int, list[int]] = {}  # shared inputs, by call
        self._views: dict[int, weakref.ref[Any]] = {}  # shared outputs that are still looked at, by place
        self._splitter = frames.Splitter()
        self._waiting = bytearray()  # what the socket did not take yet
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # -- its life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process. Raises OSError when it cannot be started."""
        made = self._spawned = (self._spares.take(self.order) if self._spares is not None else None) or spawn(
            self.order
        )
        self._process = made.process
        self._cgroup = made.cgroup
        self._kills = cgroup.oom_kills(self._cgroup)
        self._arena = arena.Arena(made.arena, 0)
        os.close(made.arena)
        self._socket = made.socket
        self._socket.setblocking(False)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._socket, self._readable)
        self._loop.add_reader(self._pidfd, self._exited)
        self.log.attach(made.output)
        order = self.order
        opening = {
            "root": str(order.root),
            "format": order.format,
            "trusted": order.trusted,
            "device": order.device,
            "options": order.options,
        }
        self._write(frames.document(frames.OPEN, 0, opening))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def opened(self) -> None:
        """Wait until the model is loaded. Raises what its opening raised."""
        await asyncio.shield(self._opened)

    def kill(self, why: str = "") -> None:
        """End it and all that it started, now."""
        self.why = self.why or why
        self.ready = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in cgroup.members(self._cgroup):  # what left the process group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    async def close(self, grace: float = 2.0) -> None:
        """Ask it to end, then make it."""
        self.leaving = True
        self.why = self.why or "It was closed."
        if not self._ended.is_set():
            self._write(frames.frame(frames.CLOSE))
            try:
                await asyncio.wait_for(self._ended.wait(), grace)
            except TimeoutError:
                self.kill()
                await self._ended.wait()

    def _exited(self) -> None:
        if self._process.poll() is None:
            return
        self.ready = False
        self._readable()  # answers that it sent before its end count
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self.log.detach(self._spawned.output)
        why = self._describe(self._process.returncode)
        self.kill()  # what it leaves behind
        self._spawned.clean()
        self._arena.close()
        if not self._opened.done():
            self._opened.set_exception(
                NotReady(f"The worker of '{self.order.name}' ended while it loaded the model: {why}")
            )
            self._opened.exception()  # whoever waits still gets it; nobody has to
        self._ended.set()
        self._on_end(self, why)

    def _describe(self, code: int) -> str:
        last = next((line for line in reversed(self.log.lines) if line.strip()), "")
        if cgroup.oom_kills(self._cgroup) > self._kills:
            limit = f" its limit of {self.order.memory / (1 << 20):.0f} MiB" if self.order.memory else " there is"
            return f"It was killed because it used more memory than{limit}."
        if self.why:
            return self.why
        if code == -signal.SIGKILL:
            return "It was killed from outside (SIGKILL)."
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"It died of {name} ({signal.strsignal(-code) or 'unknown'}).{f' Its last words: {last}' if last else ''}"
        return f"It ended with exit code {code}.{f' Its last words: {last}' if last else ''}"

    def memory(self) -> int:
        """Bytes of its own: resident without what it shares with others."""
        try:
            with open(f"/proc/{self._process.pid}/statm", "rb") as file:
                _, resident, shared, *_ = file.read().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * _PAGE

    # -- requests ------------------------------------------------------------------------------------------------------

    def send(self, call: Call) -> None:
        """Let it work on a call."""
        assert self.signature is not None
        request = call.request
        inputs = [(i, tensor.name, tensor.datatype, tensor.array) for i, tensor in enumerate(request.inputs)]
        parameters = request.parameters
        if not self.signature.inputs:
            named = [[tensor.name, tensor.datatype] for tensor in request.inputs]
            parameters = {**parameters, frames.INPUTS: named}
        data, places = frames.request(call.id, call.verb, call.outputs, parameters, inputs, self._arena)
        if places:
            self._places[call.id] = places
        self.calls[call.id] = call
        call.dispatched = time.perf_counter_ns()
        self._write(data)

    def cancel(self, call: Call) -> None:
        """Tell it that nobody waits for this answer; it says when it is done with it."""
        if call.id in self.calls:
            self._write(frames.frame(frames.CANCEL, call.id))

    def credit(self, call: Call) -> None:
        """The reader of a stream took half a window of pieces."""
        if call.id in self.calls:
            self._write(frames.frame(frames.CREDIT, call.id))

    def _write(self, data: bytes) -> None:
        if self._waiting:
            self._waiting += data
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # it is gone, which `_exited` is told by the kernel
        if sent < len(data):
            self._waiting += data[sent:]
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._waiting)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._waiting.clear()
            sent = 0
        del self._waiting[:sent]
        if not self._waiting:
            self._loop.remove_writer(self._socket)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        while True:
            try:
                data = self._socket.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._loop.remove_reader(self._socket)
                return
            for frame in self._splitter.feed(data):
                self._take(frame)
            if len(data) < _CHUNK:
                return

    def _take(self, frame: frames.Frame) -> None:
        kind = frame.kind
        if kind == frames.ANSWER or kind == frames.PIECE:
            self._answered(frame)
        elif kind == frames.RELEASE:
            self._let_go(frame.call)
        elif kind == frames.END:
            if frame.json()["released"]:
                self._let_go(frame.call)
            if call := self.calls.pop(frame.call, None):
                call.end()
                self._on_free(self)
        elif kind == frames.ERROR:
            self._failed(frame.call, frame.json())
        elif kind == frames.READY:
            document = frame.json()
            self.signature = signatures.from_json(document["signature"])
            self.concurrent = document["concurrent"]
            self.ready = True
            self._opened.set_result(None)

    def _answered(self, frame: frames.Frame) -> None:
        assert self.signature is not None
        specs = [(spec.name, spec.datatype) for spec in self.signature.outputs]
        spent, released, parameters, found = frames.read_answer(frame.body, specs, self._arena)
        if released:
            self._let_go(frame.call)
        call = self.calls.get(frame.call)
        outputs = [self._watched(tensor, place) for tensor, place in found]
        if frame.kind == frames.ANSWER:
            self.calls.pop(frame.call, None)
        if call is not None:
            call.take(outputs, parameters, spent)
        if frame.kind == frames.ANSWER:
            self._on_free(self)

    def _watched(self, tensor: Tensor, place: int | None) -> Tensor:
        """The worker gets the memory of a shared output back when nobody looks at its array any more."""
        if place is not None:
            if tensor.datatype == "BYTES":
                self._write(frames.release(0, [place]))
            else:
                owner = _owner(tensor.array)  # which all views of the array hold
                self._views[place] = weakref.ref(owner, lambda _, place=place: self._unwatched(place))  # type: ignore[misc]
        return tensor

    def _unwatched(self, place: int) -> None:
        if self._views.pop(place, None) is not None and not self._ended.is_set():
            self._write(frames.release(0, [place]))

    def _let_go(self, call: int) -> None:
        for place in self._places.pop(call, ()):
            self._arena.release(place)

    def _failed(self, id: int, document: dict[str, Any]) -> None:
        error = _rebuilt(document)
        if id == 0:
            self.why = f"The model could not be loaded: {error.message}"
            if not self._opened.done():
                self._opened.set_exception(error)
                self._opened.exception()
            return
        if document.get("released"):
            self._let_go(id)
        if call := self.calls.pop(id, None):
            call.fail(error)
        self._on_free(self)

    def __repr__(self) -> str:
        return f"Worker({json.dumps(self.order.name)}, pid={self._process.pid})"


def _owner(array: Any) -> Any:
    """The outermost array of a chain of views."""
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _rebuilt(document: dict[str, Any]) -> Error:
    """The error that a worker sent."""
    kind = _ERRORS.get(document.get("code", ""), Failed)
    error = kind(document.get("message"), hint=document.get("hint"), field=document.get("field"))
    if isinstance(error, NotReady) and "retry_after" in document:
        error.retry_after = float(document["retry_after"])
    return error
