"""The server's side of one HTTP/2 connection (RFC 9113) on an asyncio transport: frames, streams, flow control, limits.

What a stream carries is the business of `Calls`. Everything here runs on the event loop, and nothing waits.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Protocol, cast

from mlaas.modelserver.grpc import frames
from mlaas.modelserver.grpc.call import Method
from mlaas.modelserver.grpc.calls import Calls
from mlaas.modelserver.grpc.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_LIMIT,
    WINDOW_UPDATE,
    ConnectionFault,
    Reason,
    StreamFault,
)
from mlaas.modelserver.grpc.headers import LIST_LIMIT, HeaderReader, Route
from mlaas.modelserver.grpc.limits import Bucket, Limits, Memory
from mlaas.modelserver.grpc.sender import Sender
from mlaas.modelserver.grpc.status import Code
from mlaas.modelserver.grpc.stream import Stream

_log = logging.getLogger(__name__)

_HTTP_1 = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
_HTTP_1_TEXT = b"This port speaks gRPC, that is HTTP/2. REST is on the HTTP port.\n"
_REMEMBERED_RESETS = 256
_FRAME_SIZE = 256 * 1024  # of what carries messages and headers; no other frame needs more than the default
_LARGE = (DATA, HEADERS, CONTINUATION)
_KEEPALIVE = b"mlaas-ka"
_DRAINING = b"mlaas-dr"


class Owner(Protocol):
    """Who has connections: a server. `access` is called at the end of each call, see there."""

    access: Callable[[Route, int, float], None] | None

    def joined(self, connection: "Connection") -> None:
        """A connection is made."""

    def left(self, connection: "Connection") -> None:
        """A connection is gone."""


class Connection(asyncio.Protocol):
    """One peer. `streams` are those not closed on both sides, by number."""

    def __init__(self, owner: Owner, methods: Mapping[str, Method], limits: Limits, memory: Memory) -> None:
        self._owner = owner
        self._methods = methods
        self.limits = limits
        self.memory = memory
        self.streams: dict[int, Stream] = {}
        self._rest = b""
        self._greeted = False
        self._last = 0  # highest stream number of the peer
        self._final = WINDOW_LIMIT  # highest one that is still served
        self._draining = False
        self._part: tuple[int, int, int] | None = None  # of DATA that goes on: stream, flags, bytes still to come
        self._block: tuple[int, int, bytearray] | None = None  # of headers that go on: stream, flags, bytes so far
        self._allowed = limits.connection_window
        self._unacknowledged = 0
        self._resets: deque[int] = deque(
            maxlen=_REMEMBERED_RESETS
        )  # streams we reset: what is under way for them is ignored
        self._control = Bucket(2000, 200)
        self._cancels = Bucket(1000, 200)
        self._empty = Bucket(1000, 100)
        self._active = True  # something came since the last sweep
        self._quiet = self._stalled = self._unfinished = 0.0
        self._waiting = 0

    # -- the transport ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1024 * 1024)
        self.sender = Sender(self._transport, loop, self._closed)
        peer = transport.get_extra_info("peername")
        self._headers = HeaderReader(
            self._methods, (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)
        )
        self._calls = Calls(loop, self.sender, self.limits, self.memory, self.acknowledge)
        self._owner.joined(self)
        self.sender.control(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: self.limits.streams,
                    frames.INITIAL_WINDOW_SIZE: self.limits.stream_window,
                    frames.MAX_FRAME_SIZE: _FRAME_SIZE,
                    frames.MAX_HEADER_LIST_SIZE: LIST_LIMIT,
                }
            )
            + frames.window_update(0, self.limits.connection_window - DEFAULT_WINDOW)
        )

    def data_received(self, data: bytes) -> None:
        self._active = True
        if self._rest:
            data = self._rest + data
        try:
            position = 0 if self._greeted else self._greet(data)
            if self._greeted:
                position = self._frames(data, position)
            self._rest = data[position:]
        except ConnectionFault as fault:
            self._abort(fault.reason, fault.text)
        except Exception as error:
            _log.error("A gRPC connection failed", exc_info=error)
            self._abort(Reason.INTERNAL_ERROR, "")
        self.sender.flush()

    def pause_writing(self) -> None:
        self.sender.pause()

    def resume_writing(self) -> None:
        self.sender.resume()

    def eof_received(self) -> bool:
        return False  # nobody half-closes HTTP/2: the transport closes

    def connection_lost(self, error: Exception | None) -> None:
        for stream in list(self.streams.values()):
            self._drop(stream)
        self._owner.left(self)

    def _greet(self, data: bytes) -> int:
        """The preface's length, once it is there; else 0. The server's own SETTINGS go out with it."""
        if data.startswith(PREFACE):
            self._greeted = True
            return len(PREFACE)
        if PREFACE.startswith(data):
            return 0
        if data[:1].isalpha() and data[:3] != b"PRI":
            # A client of HTTP/1: the frames gathered so far would be noise to it.
            self.sender.discard()
            self.sender.control(_HTTP_1 % (len(_HTTP_1_TEXT), _HTTP_1_TEXT))
            self.sender.flush()
            self._transport.close()
            return len(data)
        raise ConnectionFault(Reason.PROTOCOL_ERROR, "no HTTP/2 preface")

    def _abort(self, reason: Reason, text: str) -> None:
        if not self._transport.is_closing():
            self.sender.control(frames.goaway(self._last, reason, text))
            self.sender.flush()
            self._transport.close()
        self._rest = b""
        self._greeted = True

    # -- frames -----------------------------------------------------------------------------------------------------

    def _frames(self, data: bytes, position: int) -> int:
        """Take all whole frames; where the first one that is not whole begins."""
        end = len(data)
        unpack = HEAD.unpack_from
        if self._part is not None:
            position = self._more(data, position)
        while end - position >= 9:
            upper, lower, kind, flags, number = unpack(data, position)
            length = upper << 8 | lower
            if length > DEFAULT_FRAME_SIZE and (length > _FRAME_SIZE or kind not in _LARGE):
                raise ConnectionFault(Reason.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = position + 9
            stop = start + length
            number &= WINDOW_LIMIT
            if stop > end:
                if kind != DATA or flags & PADDED or self._block is not None or start == end:
                    break
                self._part = number, flags, stop - end  # the message may take what is there
                flags &= ~END_STREAM
                stop = end
            position = stop
            if self._block is not None and kind != CONTINUATION:
                raise ConnectionFault(Reason.PROTOCOL_ERROR, "a header block is not finished")
            try:
                if kind == DATA:
                    self._data(number, flags, data, start, stop)
                elif kind == HEADERS:
                    self._header(number, flags, data, start, stop)
                else:
                    self._other(kind, number, flags, data[start:stop])
            except StreamFault as fault:
                self._reset(fault.stream, fault.reason)
            if self._transport.is_closing():
                return end
        return position

    def _more(self, data: bytes, position: int) -> int:
        """The rest of a DATA frame of which a part was taken; where it ends."""
        assert self._part is not None
        number, flags, left = self._part
        stop = min(position + left, len(data))
        left -= stop - position
        self._part = (number, flags, left) if left else None
        if number in self._resets:  # this frame reset the stream, and is accounted for
            self._account(stop - position)
            return stop
        try:
            self._data(number, flags & ~END_STREAM if left else flags, data, position, stop)
        except StreamFault as fault:
            self._reset(fault.stream, fault.reason)
        return stop

    def _account(self, length: int) -> None:
        """Count DATA against the connection's window, and open it again when half of it is used."""
        self._allowed -= length
        if self._allowed < 0:
            raise ConnectionFault(Reason.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        self._unacknowledged += length
        if self._unacknowledged << 1 > self.limits.connection_window:
            self.sender.control(frames.window_update(0, self._unacknowledged))
            self._allowed += self._unacknowledged
            self._unacknowledged = 0

    def _data(self, number: int, flags: int, data: bytes, start: int, stop: int) -> None:
        length = stop - start
        self._account(length)
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            self._stray(number, DATA)
            return
        stream.allowed -= length
        if stream.allowed < 0:
            raise StreamFault(number, Reason.FLOW_CONTROL_ERROR)
        stream.unacknowledged += length
        if flags & PADDED:
            start, stop = _unpadded(data, start, stop)
        ended = bool(flags & END_STREAM)
        if not length and not ended and not self._empty.take():
            raise ConnectionFault(Reason.ENHANCE_YOUR_CALM, "too many empty DATA frames")
        expected = stream.route.content_length
        if expected >= 0:
            stream.received += stop - start
            if stream.received > expected or (ended and stream.received != expected):
                raise StreamFault(number, Reason.PROTOCOL_ERROR)
        if ended:
            stream.ended = True
        self._calls.data(stream, data, start, stop, ended)
        if not ended and stream.unacknowledged << 1 > self.limits.stream_window:
            self.acknowledge(stream)

    def acknowledge(self, stream: Stream) -> None:
        """Let the peer send as much again as came, unless messages wait that the method has not taken."""
        inbox = stream.inbox
        if (
            stream.ended
            or stream.gone
            or stream.unacknowledged << 1 <= self.limits.stream_window
            or (inbox is not None and inbox.size >= self.limits.stream_window)
        ):
            return
        self.sender.control(frames.window_update(stream.number, stream.unacknowledged))
        self.sender.later()
        stream.allowed += stream.unacknowledged
        stream.unacknowledged = 0

    def _stray(self, number: int, kind: int) -> None:
        """A frame for a stream that is not open."""
        if number == 0 or number > self._last:
            raise ConnectionFault(Reason.PROTOCOL_ERROR, f"frame {kind} for stream {number}, which is idle")
        if number not in self._resets:
            self._charge()
            raise StreamFault(number, Reason.STREAM_CLOSED)

    def _header(self, number: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if flags & (PADDED | PRIORITISED):
            if flags & PADDED:
                start, stop = _unpadded(data, start, stop)
            if flags & PRIORITISED:
                if stop - start < 5:
                    raise ConnectionFault(Reason.FRAME_SIZE_ERROR, "HEADERS without its priority")
                if int.from_bytes(data[start : start + 4], "big") & WINDOW_LIMIT == number:
                    raise ConnectionFault(Reason.PROTOCOL_ERROR, "a stream that depends on itself")
                start += 5
        if stop - start > self.limits.header_block:
            raise ConnectionFault(Reason.ENHANCE_YOUR_CALM, "a header block that is too large")
        if flags & END_HEADERS:
            self._headed(number, flags, data[start:stop])
        else:
            self._block = number, flags, bytearray(data[start:stop])

    def _continued(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ConnectionFault(Reason.PROTOCOL_ERROR, "CONTINUATION without its HEADERS")
        _, first, block = self._block
        block += payload
        if len(block) > self.limits.header_block or not (payload or self._empty.take()):
            raise ConnectionFault(Reason.ENHANCE_YOUR_CALM, "a header block that does not end")
        if flags & END_HEADERS:
            self._block = None
            self._headed(number, first, bytes(block))

    def _headed(self, number: int, flags: int, block: bytes) -> None:
        """A whole header block: a request's, or trailers."""
        if number <= self._last or not number & 1:
            self._trailers(number, flags, block)
            return
        route = self._headers.route(block)  # also of what is refused: the tables must stay in step
        self._last = number
        if number > self._final or len(self.streams) >= self.limits.streams:
            self._charge()
            raise StreamFault(number, Reason.REFUSED_STREAM)
        ended = bool(flags & END_STREAM)
        if route.malformed or (ended and route.content_length > 0):
            raise StreamFault(number, Reason.PROTOCOL_ERROR)
        stream = Stream(number, route, self.sender.initial, self.limits.stream_window, ended)
        self.streams[number] = stream
        if self._owner.access is not None:
            stream.began = perf_counter()
        if ended or not route.plain or self.sender.waiting > self.limits.output:
            self._calls.opened(stream)

    def _trailers(self, number: int, flags: int, block: bytes) -> None:
        if number == 0 or not number & 1:
            raise ConnectionFault(Reason.PROTOCOL_ERROR, f"HEADERS on stream {number}")
        fields = self._headers.fields(block)
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            if stream is None and number in self._resets:
                return
            raise ConnectionFault(Reason.STREAM_CLOSED, f"HEADERS on stream {number}, which has ended")
        if not flags & END_STREAM or any(name.startswith(":") for name, _ in fields):
            raise StreamFault(number, Reason.PROTOCOL_ERROR)
        stream.ended = True
        self._calls.ended(stream)

    def _other(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._window(number, payload)
        elif kind == SETTINGS:
            self._settings(number, flags, payload)
        elif kind == PING:
            self._ping(number, flags, payload)
        elif kind == RST_STREAM:
            self._cancelled(number, payload)
        elif kind == CONTINUATION:
            self._continued(number, flags, payload)
        elif kind == PRIORITY:
            self._charge()
            if number == 0:
                raise ConnectionFault(Reason.PROTOCOL_ERROR, "PRIORITY on stream 0")
            if len(payload) != 5:
                raise StreamFault(number, Reason.FRAME_SIZE_ERROR)
            if int.from_bytes(payload[:4], "big") & WINDOW_LIMIT == number:
                raise StreamFault(number, Reason.PROTOCOL_ERROR)
        elif kind == GOAWAY:
            if number or len(payload) < 8:
                raise ConnectionFault(Reason.PROTOCOL_ERROR, "a GOAWAY that is none")
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(Reason.PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        else:
            self._charge()  # frames of unknown kinds are ignored

    def _window(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Reason.FRAME_SIZE_ERROR, "a WINDOW_UPDATE that is none")
        increment = int.from_bytes(payload, "big") & WINDOW_LIMIT
        if number == 0:
            if not increment:
                raise ConnectionFault(Reason.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0")
            self.sender.widen(increment)
            return
        stream = self.streams.get(number)
        if stream is None:
            if number > self._last:
                raise ConnectionFault(Reason.PROTOCOL_ERROR, f"WINDOW_UPDATE for stream {number}, which is idle")
        elif not increment:
            raise StreamFault(number, Reason.PROTOCOL_ERROR)
        elif stream.window + increment > WINDOW_LIMIT:
            raise StreamFault(number, Reason.FLOW_CONTROL_ERROR)
        else:
            self.sender.widen_stream(stream, increment)
            self.sender.pump()

    def _settings(self, number: int, flags: int, payload: bytes) -> None:
        self._charge()
        if number or (flags & frames.ACK and payload) or len(payload) % 6:
            reason = Reason.PROTOCOL_ERROR if number else Reason.FRAME_SIZE_ERROR
            raise ConnectionFault(reason, "SETTINGS that are none")
        if flags & frames.ACK:
            return
        for name, value in frames.SETTING.iter_unpack(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > WINDOW_LIMIT:
                    raise ConnectionFault(Reason.FLOW_CONTROL_ERROR, "an initial window above 2^31-1")
                step = value - self.sender.initial
                self.sender.initial = value
                for stream in self.streams.values():
                    if stream.window + step > WINDOW_LIMIT:
                        raise ConnectionFault(Reason.FLOW_CONTROL_ERROR, "a window above 2^31-1")
                    self.sender.widen_stream(stream, step)
                self.sender.pump()
            elif name == frames.MAX_FRAME_SIZE:
                if not DEFAULT_FRAME_SIZE <= value < 1 << 24:
                    raise ConnectionFault(Reason.PROTOCOL_ERROR, f"a frame size of {value}")
                self.sender.frame_size = min(value, 256 * 1024)
            elif name == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Reason.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        self.sender.control(frames.SETTINGS_ACK)

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Reason.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(Reason.FRAME_SIZE_ERROR, "a PING that is none")
        if not flags & frames.ACK:
            self._charge()
            self.sender.control(frames.frame(PING, frames.ACK, 0, payload))
        elif payload == _DRAINING and self._draining:
            self._finalise()

    def _charge(self) -> None:
        """Count a frame that costs the peer nothing. Raises ConnectionFault for a flood."""
        if not self._control.take():
            raise ConnectionFault(Reason.ENHANCE_YOUR_CALM, "too many control frames")

    # -- ends of streams --------------------------------------------------------------------------------------------

    def _cancelled(self, number: int, payload: bytes) -> None:
        """RST_STREAM came."""
        if len(payload) != 4:
            raise ConnectionFault(Reason.FRAME_SIZE_ERROR, "a RST_STREAM that is none")
        if number == 0 or number > self._last:
            raise ConnectionFault(Reason.PROTOCOL_ERROR, f"RST_STREAM for stream {number}, which is idle")
        stream = self.streams.get(number)
        if stream is not None:
            if not self._cancels.take():
                raise ConnectionFault(Reason.ENHANCE_YOUR_CALM, "too many streams were reset")
            self._resets.append(number)
            self._drop(stream)
            self._emptied()

    def _reset(self, number: int, reason: Reason) -> None:
        """The peer broke a stream: RST_STREAM goes."""
        stream = self.streams.get(number)
        if stream is not None:
            self._drop(stream)
        self._resets.append(number)
        self.sender.control(frames.rst_stream(number, reason))
        self._emptied()

    def _drop(self, stream: Stream) -> None:
        """Let go of a stream before its answer."""
        self.streams.pop(stream.number, None)
        stream.gone = True
        if self._owner.access is not None:
            self._owner.access(stream.route, stream.code or Code.CANCELLED, stream.began)
        self.memory.held -= stream.held
        self._calls.cancel(stream)
        self.sender.forget(stream)

    def _closed(self, stream: Stream) -> None:
        """A stream's end is sent."""
        self.streams.pop(stream.number, None)
        stream.gone = True
        if self._owner.access is not None:
            self._owner.access(stream.route, stream.code, stream.began)
        if stream.held:
            self.memory.held -= stream.held
        if not stream.ended:
            # The answer came before the request's end: the rest of it is not wanted.
            self._resets.append(stream.number)
            self.sender.control(frames.rst_stream(stream.number, Reason.NO_ERROR))
        if self._draining:
            self._emptied()

    # -- care -------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Finish what is begun, then close: GOAWAY now, and once more with the last stream when the peer has seen it."""
        if self._draining or self._transport.is_closing():
            return
        self._draining = True
        self.sender.control(frames.goaway(WINDOW_LIMIT, Reason.NO_ERROR) + frames.frame(PING, 0, 0, _DRAINING))
        self.sender.flush()
        if not self._greeted:
            self._finalise()

    def _finalise(self) -> None:
        self._final = self._last
        self.sender.control(frames.goaway(self._last, Reason.NO_ERROR))
        self._emptied()

    def _emptied(self) -> None:
        if self._draining and self._final != WINDOW_LIMIT and not self.streams:
            self.sender.flush()
            self._transport.close()

    def abort(self) -> None:
        """Close now; calls that are still worked on are cancelled."""
        self._transport.abort()

    def sweep(self, seconds: float) -> None:
        """Called every few seconds: leave peers that do not finish what they began, are gone, or never read."""
        begun = bool(self._rest) or self._part is not None or self._block is not None or not self._greeted
        self._unfinished = self._unfinished + seconds if begun and not self._active else 0.0
        self._quiet = 0.0 if self._active else self._quiet + seconds
        moved = not self.sender.waiting or self.sender.waiting != self._waiting
        self._stalled = 0.0 if moved else self._stalled + seconds
        self._waiting = self.sender.waiting
        self._active = False
        limits = self.limits
        if self._unfinished >= (limits.frame_timeout if self._greeted else limits.preface_timeout):
            self._abort(Reason.PROTOCOL_ERROR, "what was begun is not finished")
        elif self._stalled >= limits.stalled:
            self._abort(Reason.ENHANCE_YOUR_CALM, "nothing is read")
        elif self._quiet >= limits.keepalive + limits.keepalive_timeout:
            self.abort()
        elif limits.keepalive <= self._quiet < limits.keepalive + seconds:
            self.sender.control(frames.frame(PING, 0, 0, _KEEPALIVE))
            self.sender.flush()


def _unpadded(data: bytes, start: int, stop: int) -> tuple[int, int]:
    if start == stop or data[start] >= stop - start:
        raise ConnectionFault(Reason.PROTOCOL_ERROR, "more padding than frame")
    return start + 1, stop - data[start]
