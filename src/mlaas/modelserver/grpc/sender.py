"""All that goes out of one connection: control frames at once, DATA as far as the peer's windows and the socket go.

Frames are gathered and written once for a turn of the event loop. What does not fit the windows waits with its stream; streams
that wait take turns of one frame each.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from struct import Struct

from mlaas.modelserver.grpc.codec import Parts
from mlaas.modelserver.grpc.frames import (
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    WINDOW_LIMIT,
    ConnectionFault,
    Reason,
    frame,
)
from mlaas.modelserver.grpc.headers import INITIAL, OK_TRAILERS
from mlaas.modelserver.grpc.stream import Stream

_FLUSH = 256 * 1024  # bytes gathered before they go to the socket within one turn


def _opening(block: bytes) -> bytes:
    return HEAD.pack(len(block) >> 8, len(block) & 0xFF, HEADERS, END_HEADERS, 0)[:5]


_OPEN = _opening(INITIAL)
_CLOSE = HEAD.pack(0, len(OK_TRAILERS), HEADERS, END_HEADERS | END_STREAM, 0)[:5]
_ANSWER = Struct(f">5sI{len(INITIAL)}sHBHIBI")
"""HEADERS, the head of one DATA frame, and gRPC's prefix of the message in it."""
_END = Struct(f">5sI{len(OK_TRAILERS)}s")


class Sender:
    """`waiting` counts the bytes that wait for a window or the socket. `closed` is called with a stream once its end is sent."""

    __slots__ = (
        "_closed",
        "_loop",
        "_out",
        "_paused",
        "_ready",
        "_scheduled",
        "_size",
        "_transport",
        "frame_size",
        "initial",
        "waiting",
        "window",
    )

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closed: Callable[[Stream], None]
    ) -> None:
        self._transport = transport
        self._closed = closed
        self._loop = loop
        self._out: list[bytes | memoryview] = []
        self._size = 0  # of the large parts in _out
        self._paused = False
        self._scheduled = False
        self._ready: dict[int, Stream] = {}  # streams with something to send and a window for it, in turn
        self.window = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self.frame_size = DEFAULT_FRAME_SIZE
        self.waiting = 0

    # -- whole frames -----------------------------------------------------------------------------------------------

    def control(self, data: bytes) -> None:
        """A frame that no window holds back."""
        self._out.append(data)

    def block(self, stream: int, block: bytes, end: bool = False) -> None:
        """A header block in one frame (ours are short)."""
        self._out.append(frame(HEADERS, END_HEADERS | END_STREAM if end else END_HEADERS, stream, block))

    def answer(self, stream: Stream, parts: Parts) -> None:
        """A unary call's whole answer with the status OK."""
        size = 0
        for part in parts:
            size += len(part)
        length = size + 5
        if length <= self.frame_size and length <= self.window and length <= stream.window and not self._paused:
            self.window -= length
            number = stream.number
            out = self._out
            out.append(_ANSWER.pack(_OPEN, number, INITIAL, length >> 8, length & 0xFF, 0, number, 0, size))
            out += parts
            out.append(_END.pack(_CLOSE, number, OK_TRAILERS))
            self._closed(stream)
            return
        self.block(stream.number, INITIAL)
        self.message(stream, parts, size)
        self.finish(stream, OK_TRAILERS)

    # -- messages under flow control --------------------------------------------------------------------------------

    def message(self, stream: Stream, parts: Parts, size: int, compressed: bool = False) -> None:
        """One gRPC message, sent as the windows allow."""
        pending = stream.pending
        if pending is None:
            pending = stream.pending = deque()
        pending.append(memoryview(bytes((compressed,)) + size.to_bytes(4, "big")))
        gathered: list[bytes | memoryview] = []
        for part in parts:
            if len(part) < 16384:
                gathered.append(part)
                continue
            if gathered:
                pending.append(memoryview(b"".join(gathered)))
                gathered = []
            pending.append(memoryview(part))
        if gathered:
            pending.append(memoryview(b"".join(gathered)))
        self.waiting += size + 5
        self._ready[stream.number] = stream
        self.pump()

    def finish(self, stream: Stream, block: bytes) -> None:
        """Trailers, after what is still to be sent."""
        if stream.pending:
            stream.trailers = block
        else:
            self.block(stream.number, block, end=True)
            self._closed(stream)

    def forget(self, stream: Stream) -> None:
        """Drop what a stream still had to send."""
        self._ready.pop(stream.number, None)
        if stream.pending:
            self.waiting -= sum(len(part) for part in stream.pending)
            stream.pending.clear()
        stream.sent()

    def pump(self) -> None:
        """Send what waits, one frame of each stream in turn."""
        ready = self._ready
        while ready and self.window > 0 and not self._paused:
            number = next(iter(ready))
            stream = ready.pop(number)
            pending = stream.pending
            room = min(self.window, stream.window, self.frame_size)
            if room <= 0 or not pending:
                continue
            taken, parts = 0, []
            while pending and taken < room:
                part = pending[0]
                if len(part) <= room - taken:
                    parts.append(pending.popleft())
                else:
                    parts.append(part[: room - taken])
                    pending[0] = part[room - taken :]
                taken += len(parts[-1])
            self._out.append(HEAD.pack(taken >> 8, taken & 0xFF, DATA, 0, number))
            self._out += parts
            self.window -= taken
            stream.window -= taken
            self.waiting -= taken
            self._size += taken
            if pending:
                ready[number] = stream
            else:
                if stream.trailers is not None:
                    self.block(number, stream.trailers, end=True)
                    self._closed(stream)
                stream.sent()
            if self._size > _FLUSH:
                self.flush()

    # -- windows and the socket -------------------------------------------------------------------------------------

    def widen(self, increment: int) -> None:
        """The peer's WINDOW_UPDATE for the connection. Raises ConnectionFault above the limit."""
        self.window += increment
        if self.window > WINDOW_LIMIT:
            raise ConnectionFault(Reason.FLOW_CONTROL_ERROR, "the connection's window is above 2^31-1")
        self.pump()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """The peer's WINDOW_UPDATE for a stream, or its new initial size (which may be a negative step). `pump` follows."""
        stream.window += increment
        if stream.pending and stream.window > 0:
            self._ready[stream.number] = stream

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.pump()
        self.flush()

    def later(self) -> None:
        """Write what is gathered at the end of this turn (outside of reading, which flushes by itself)."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def discard(self) -> None:
        """Forget what is gathered."""
        self._out = []

    def flush(self) -> None:
        """Hand what is gathered to the socket."""
        self._scheduled = False
        out = self._out
        if out:
            self._out = []
            self._size = 0
            if not self._transport.is_closing():
                self._transport.write(b"".join(out))
