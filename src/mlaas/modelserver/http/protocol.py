"""One connection of HTTP/1.1 and 1.0: bytes in, requests to the application, replies out in order.

What is read: one request at a time is answered, pipelined ones wait their turn. A body longer than `DIRECT` bytes is received by
the kernel straight into its own buffer, which the tensors then are views of.

What is refused, before any application sees it: two lengths or a length beside chunks (request smuggling), a transfer coding
other than `chunked`, folded or malformed headers, no or two hosts, headers and bodies over their limits, and clients that send
too slowly. Every connection has one deadline, looked at once a second by the server's sweep; no timer is made for a request.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Awaitable
from time import perf_counter
from typing import Any, cast

import httptools

from mlaas.kernel.errors import Error, Malformed, TooLarge
from mlaas.modelserver.http.message import (
    JSON,
    HttpRequest,
    LateRequest,
    Reply,
    TooManyHeaders,
    error_reply,
    head,
)
from mlaas.modelserver.http.port import Port

DIRECT = 1 << 16
"""Bodies above this are received into their own buffer."""

_PIPELINED = 16  # requests waiting in one connection before it is no longer read
_LINGER = 2.0  # seconds in which a refused client may read why, while it still sends
_TOGETHER = 1 << 16  # bytes of replies to pipelined requests that are written at once
_NEVER = float("inf")


class Connection(asyncio.BufferedProtocol):
    """See the module. `port` has the application, the limits and the shared receive buffer."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.deadline = _NEVER  # loop time
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._peer, self._peer_port = "", 0
        self._refused: Error | None = None
        self._request = HttpRequest(b"", b"", b"", {}, "1.0")  # the one being read
        self._reset()
        self._reading = False  # a request has begun and is not whole
        self._in_head = False
        self._head_bytes = self._head_size = 0  # received, and of the headers read so far
        self._filling: bytearray | None = None
        self._filled = 0
        self._body_began = 0.0
        self._queue: deque[HttpRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._out: list[bytes | memoryview] = []
        self._waiting = 0  # bytes of bodies in it
        self._feeding = False
        self._closing = False  # nothing more is read or answered
        self._discarding = False
        self._ended = False  # the client has sent all it will
        self._writable: asyncio.Event | None = None  # set while it may be written to; None: never been full
        self._paused = False

    # -- asyncio's side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer, self._peer_port = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)
        self.port.connections.add(self)
        self.deadline = self._loop.time() + self.port.limits.header_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        self.port.connections.discard(self)
        self._closing = True
        self._queue.clear()
        self._out.clear()
        if self._writable is not None:
            self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._filling is not None:
            return memoryview(self._filling)[self._filled :]
        return self.port.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._discarding or self._closing:
            return
        if self._filling is not None:
            self._filled += nbytes
            self._body_progress(self._filled)
            if self._filled == len(self._filling):
                self._finish_direct()
        else:
            self._received_some(nbytes)

    def eof_received(self) -> bool:
        """The client has shut down its side. What it asked for is answered; a request that is not whole is dropped."""
        self._ended = True
        if self._out:
            self.flush()
        return not self._closing and not self._reading and (self._task is not None or bool(self._queue))

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.Event()
        self._writable.clear()
        self.deadline = self._loop.time() + self.port.limits.write_seconds
        self._pause()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
        self._settle()
        self._next()

    # -- the parser's side ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self._reading = self._in_head = True
        self._head_bytes = self._head_size = 0
        self.deadline = self._loop.time() + self.port.limits.header_seconds

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self._headers and name in _SINGLE:
            self._refused = Malformed(f"The header '{name.decode('latin-1')}' is there twice.")
        self._headers[name] = value
        self._head_size += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser, headers = self._parser, self._headers
        path, mark, query = self._url.partition(b"?")
        if mark:
            query = query.partition(b"#")[0]
        if not path.startswith(b"/"):
            path = _origin_form(path)
        version = parser.get_http_version()
        request = HttpRequest(parser.get_method(), path, query, headers, version)
        request.keep_alive = parser.should_keep_alive()
        request.peer, request.peer_port = self._peer, self._peer_port
        request.started = perf_counter()
        self._request = request
        if b"host" not in headers and version != "1.0":
            self._refused = self._refused or Malformed("An HTTP/1.1 request needs the header Host.")
        size = headers.get(b"content-length")
        if size is not None or b"transfer-encoding" in headers:
            self._begin_body(headers, version, int(size or 0))
        limit = self.port.limits.header_bytes
        if self._head_size + len(self._url) > limit:
            self._refused = TooManyHeaders(f"The headers are longer than {limit:,} bytes.")
        if self._refused is None and b"expect" in headers:
            self._expect(headers[b"expect"])

    def on_body(self, body: bytes) -> None:
        if self._refused is not None:
            return
        self._received += len(body)
        if self._received > self.port.limits.body_bytes:
            self._refuse_size()
            return
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # see _decline
        chunks = self._chunks
        request = self._request
        if chunks:
            request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._whole(request)

    # -- reading --------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._received = 0
        self._expected = 0
        self._refused = None

    def _received_some(self, size: int) -> None:
        """So many bytes are in the shared buffer: a request under a head that is known, or work for the parser."""
        port = self.port
        if self._reading:
            self._feed(port.buffer[:size])
            return
        request = port.heads.find(port.buffer, port.store, size)
        if request is None:
            self._feed(port.buffer[:size])
            if not self._reading and not self._discarding and not self._closing and self._refused is None:
                port.heads.add(self._request, self._expected, port.store, size)
            return
        request.peer, request.peer_port = self._peer, self._peer_port
        request.started = perf_counter()
        self._feeding = True
        self._whole(request)
        self._feeding = False
        if self._out:
            port.flush_later(self)

    def _feed(self, data: memoryview) -> None:
        self._feeding = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline(data[int(upgrade.args[0]) :])
        except httptools.HttpParserError as error:
            self._refuse(Malformed(f"This is no HTTP/1.1 request that is read here: {error}."))
        self._feeding = False
        if self._reading and not self._closing and not self._discarding:
            self._after_feed(len(data))
        if self._out:
            self.port.flush_later(self)

    def _decline(self, rest: memoryview) -> None:
        """Nobody is upgraded: a client that offers it (h2c, a web socket) is answered in HTTP/1.1. The parser has stopped at the
        end of the headers, so the body is taken from here."""
        self._parser = httptools.HttpRequestParser(self)
        if b"transfer-encoding" in self._headers:
            self._refused = self._refused or Malformed("A request that offers an upgrade cannot have a body in chunks.")
        if self._refused is not None or not self._expected:
            self._whole(self._request)
        else:
            taken = min(self._expected, len(rest))
            self._filling = bytearray(self._expected)
            self._filling[:taken] = rest[:taken]
            self._filled = taken
            rest = rest[taken:]
            if self._filled == self._expected:
                self._finish_direct()
        if len(rest):
            self._feed(rest)

    def _after_feed(self, size: int) -> None:
        """A request is begun and not whole: its limits, and the buffer for its body."""
        if self._refused is not None:
            self._refuse(self._refused)
        elif self._in_head:
            self._head_bytes += size
            if self._head_bytes > self.port.limits.header_bytes:
                self._refuse(TooManyHeaders(f"The headers are longer than {self.port.limits.header_bytes:,} bytes."))
        else:
            self._body_progress(self._received)
            if self._filling is None and self._expected - self._received > DIRECT:
                self._filling = bytearray(self._expected)
                self._filled = 0
                for chunk in self._chunks:
                    self._filling[self._filled : self._filled + len(chunk)] = chunk
                    self._filled += len(chunk)
                self._chunks = []

    def _finish_direct(self) -> None:
        request = self._request
        request.body = self._filling or b""
        self._filling = None
        self._parser = httptools.HttpRequestParser(self)
        self._whole(request)
        if self._out:
            self.flush()

    def _begin_body(self, headers: dict[bytes, bytes], version: str, size: int) -> None:
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
            self._refused = self._refused or Malformed(
                "The only transfer coding that is read is 'chunked', in HTTP/1.1.", hint="Send a Content-Length."
            )
        self._expected = size
        self._body_began = self._loop.time()
        if size > self.port.limits.body_bytes:
            self._refuse_size()

    def _refuse_size(self) -> None:
        limit = self.port.limits.body_bytes
        self._refused = TooLarge(
            f"The body is larger than the {limit:,} bytes that are accepted.",
            hint="Send fewer rows at a time, or start the server with a higher --max-body.",
        )

    def _expect(self, value: bytes) -> None:
        if value.strip().lower() != b"100-continue" or self._request.version == "1.0":
            return
        if self._task is None and not self._queue and (self._expected or b"transfer-encoding" in self._headers):
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _body_progress(self, received: int) -> None:
        limits = self.port.limits
        self.deadline = self._body_began + limits.body_seconds + received / limits.body_rate

    def _whole(self, request: HttpRequest) -> None:
        """A request has been read to its end."""
        self._reading = False
        if self._closing or self._discarding:
            return
        if self._refused is not None:
            request.refused = self._refused
            request.keep_alive = False
        if not request.keep_alive:
            self._discarding = True  # what comes after the last request is not read
        if self._task is not None or self._queue or not self._may_write():
            self._queue.append(request)
            if len(self._queue) >= _PIPELINED:
                self._pause()
        else:
            self._answer(request)
        if not self._reading:
            self._settle()

    def _refuse(self, error: Error) -> None:
        """Answer what cannot be read on, in its turn, and close."""
        if self._discarding or self._closing:
            return
        request = self._request if self._reading and not self._in_head else HttpRequest(b"", b"", b"", {}, "1.1")
        request.peer = self._peer
        self._refused = error
        self._filling = None
        self._whole(request)
        if self._out:
            self.flush()

    def sweep(self, now: float) -> None:
        """Called once a second: give up on what has passed its deadline."""
        if now < self.deadline:
            return
        if self._closing or not self._may_write():
            self.abort()
        elif self._reading:
            self._refuse(LateRequest("The request did not arrive in time."))
        else:
            self._transport.close()

    # -- answering ------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        while self._queue and self._task is None and self._may_write() and not self._closing:
            self._answer(self._queue.popleft())
        if self._paused and len(self._queue) < _PIPELINED and self._may_write() and not self._closing:
            self._paused = False
            self._transport.resume_reading()
        if self._out:
            self.flush()
        if self._ended and self._task is None and not self._queue and not self._closing:
            self._close()

    def _answer(self, request: HttpRequest) -> None:
        if request.refused is not None:
            self._send(request, error_reply(request.refused))
            return
        reply = self.port.application(request)
        if type(reply) is Reply and reply.stream is None:
            self._send(request, reply)
        else:
            self.deadline = _NEVER
            self._task = self._loop.create_task(self._later(request, reply))

    async def _later(self, request: HttpRequest, reply: Reply | Awaitable[Reply]) -> None:
        try:
            if not isinstance(reply, Reply):
                reply = await reply
            if reply.stream is None:
                self._send(request, reply)
            else:
                await self._send_stream(request, reply)
        finally:
            self._task = None
        if not self._closing:
            self._settle()
            self._next()

    def _send(self, request: HttpRequest, reply: Reply) -> None:
        close = reply.close or not request.keep_alive or self.port.draining
        port = self.port
        if reply.status == 200 and not close and not reply.headers and reply.parts is None and request.version != "1.0":
            body = reply.body
            if reply.content_type is JSON:
                start = b"%s%d\r\n\r\n" % (port.ok_head, len(body))
            else:
                start = head(reply, request, port.date, chunked=False, close=False)
        else:
            body = reply.body
            start = head(reply, request, port.date, chunked=False, close=close)
        if request.method == b"HEAD":
            self._out.append(start)
        elif len(body) < 16384:
            self._out.append(start + body)
        else:
            self._out += [start, body]
        if reply.parts and request.method != b"HEAD":
            self._out += reply.parts
            self._waiting += reply.length
        if port.log is not None:
            port.log(request, reply.status, reply.length)
        self._waiting += len(body)
        if close:
            self.flush()
            self._close()
        elif not self._feeding or self._waiting > _TOGETHER:
            self.flush()

    async def _send_stream(self, request: HttpRequest, reply: Reply) -> None:
        """A stream of parts, chunked for HTTP/1.1. An error after the first part ends the connection: the client sees that the
        answer is cut off."""
        stream = reply.stream
        assert stream is not None
        chunked = request.version != "1.0"
        close = not chunked or not request.keep_alive or self.port.draining
        if self._out:
            self.flush()
        self._transport.write(head(reply, request, self.port.date, chunked=chunked, close=close))
        size = 0
        async for part in stream:
            if self._closing:
                break
            if part:
                size += len(part)
                self._transport.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            if not self._may_write() and self._writable is not None:
                await self._writable.wait()
        if self.port.log is not None:
            self.port.log(request, reply.status, size)
        if chunked and not self._closing:
            self._transport.write(b"0\r\n\r\n")
        if close:
            self._close()

    def flush(self) -> None:
        """Write the replies that wait."""
        out, self._out = self._out, []
        self._waiting = 0
        if not out or self._transport.is_closing():
            return
        if len(out) == 1:
            self._transport.write(out[0])
        else:
            self._transport.writelines(out)

    def _close(self) -> None:
        """No more replies. The client may still be sending: what it sends is read and dropped for a moment, for a reset would
        take the reply from it."""
        if self._closing:
            return
        if self._out:
            self.flush()
        self._closing = True
        self._queue.clear()
        if self._ended or self._transport.is_closing():
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.deadline = self._loop.time() + _LINGER
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def stop(self) -> None:
        """The server stops: an idle connection is closed, a busy one after its reply."""
        if self._task is None and not self._queue and not self._reading and not self._closing:
            self.flush()
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection with a reset: what the client has not read must not linger in the kernel."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _may_write(self) -> bool:
        return self._writable is None or self._writable.is_set()

    def _pause(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def _settle(self) -> None:
        """The deadline of a connection between requests; one whose replies are not read keeps its own."""
        if not self._closing and not self._reading and self._may_write():
            busy = self._task is not None or bool(self._queue)
            self.deadline = _NEVER if busy else self._loop.time() + self.port.limits.idle_seconds


_SINGLE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"inference-header-content-length", b"authorization")
)


def _origin_form(target: bytes) -> bytes:
    """The path of a request target in absolute form (`GET http://host/path`, as proxies send it)."""
    _, mark, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if mark else target
