"""gRPC on a connection's streams: messages out of DATA, the method that answers them, its answer or its error as trailers."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from mlaas.kernel.errors import Error, Invalid, TooLarge, Unavailable
from mlaas.modelserver.errors import NotReady, Throttled, TimedOut, Unsupplied
from mlaas.modelserver.grpc.assembly import Assembler
from mlaas.modelserver.grpc.call import Call
from mlaas.modelserver.grpc.codec import Buffer, Parts
from mlaas.modelserver.grpc.compression import ENCODINGS, WORTHWHILE, compress, decompress
from mlaas.modelserver.grpc.headers import (
    CONTENT_TYPE,
    INITIAL,
    INITIAL_COMPRESSED,
    LIST_LIMIT,
    OK_TRAILERS,
    literal,
    status,
    trailers,
)
from mlaas.modelserver.grpc.limits import Limits, Memory
from mlaas.modelserver.grpc.sender import Sender
from mlaas.modelserver.grpc.status import Code, code_of, text_of
from mlaas.modelserver.grpc.stream import Inbox, Stream

_log = logging.getLogger(__name__)


class Calls:
    """The calls of one connection. `taken` is called with a stream when its method has taken messages from it."""

    __slots__ = ("_limit", "_loop", "_memory", "_output", "_sender", "_taken")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sender: Sender,
        limits: Limits,
        memory: Memory,
        taken: Callable[[Stream], None],
    ) -> None:
        self._loop = loop
        self._sender = sender
        self._memory = memory
        self._limit = limits.message
        self._output = limits.output
        self._taken = taken

    # -- what comes in ----------------------------------------------------------------------------------------------

    def opened(self, stream: Stream) -> None:
        """A request's header block came."""
        route = stream.route
        if route.refused:
            text = "This port speaks gRPC: POST with content-type application/grpc."
            block = status(route.refused) + literal("content-type", "text/plain") + trailers(Code.UNKNOWN, text)
            stream.opened = True
            stream.code = Code.UNKNOWN
            self._sender.finish(stream, block)
        elif route.too_large:
            self.fail(stream, TooLarge(f"The metadata is larger than {LIST_LIMIT} bytes."))
        elif route.method is None:
            self.fail(stream, Unsupplied(f"There is no method '{route.path[:200]}'."))
        elif route.timeout is not None and route.timeout < 0:
            self.fail(stream, Invalid("grpc-timeout is no time.", field="grpc-timeout"))
        elif route.encoding != "identity" and route.encoding not in ENCODINGS:
            self.fail(
                stream,
                Unsupplied(f"Messages compressed with '{route.encoding[:50]}' are not read here."),
                {"grpc-accept-encoding": "identity,deflate,gzip"},
            )
        elif self._sender.waiting > self._output:
            self.fail(stream, Throttled("Too many bytes of earlier answers have not been read."))
        elif route.unary is None:
            stream.inbox = Inbox(lambda size: self._taken(stream))
            self._start(stream, partial(self._streaming, stream, stream.inbox))
            if stream.ended:
                stream.inbox.end()
        elif stream.ended:
            self.fail(stream, Invalid("The call has no message."))

    def data(self, stream: Stream, data: bytes, start: int, stop: int, ended: bool) -> None:
        """Bytes of a stream came: `data[start:stop]`."""
        route = stream.route
        if (
            ended
            and stream.assembler is None
            and route.unary is not None
            and stop - start >= 5
            and not data[start]
            and int.from_bytes(data[start + 1 : start + 5], "big") == stop - start - 5 <= self._limit
        ):
            self._unary(stream, data[start + 5 : stop])
            return
        try:
            for compressed, payload in self._assemble(stream, data, start, stop):
                if stream.inbox is not None:
                    stream.inbox.put((compressed, payload))
                elif stream.message is None:
                    stream.message = compressed, payload
                else:
                    raise Invalid("The method takes one message; two were sent.")
            if ended:
                self._ended(stream)
        except Error as error:
            self.fail(stream, error)

    def ended(self, stream: Stream) -> None:
        """The peer's trailers came."""
        try:
            self._ended(stream)
        except Error as error:
            self.fail(stream, error)

    def _ended(self, stream: Stream) -> None:
        if stream.assembler is not None and stream.assembler.unfinished:
            raise Invalid("The last message is cut off.")
        if stream.inbox is not None:
            stream.inbox.end()
        elif stream.message is None:
            raise Invalid("The call has no message.")
        else:
            compressed, payload = stream.message
            stream.message = None
            if compressed or stream.route.encoding != "identity":
                self._start(stream, partial(self._compressed, stream, payload, compressed))
            else:
                self._unary(stream, payload)

    def _assemble(self, stream: Stream, data: bytes, start: int, stop: int) -> list[tuple[bool, Buffer]]:
        """The messages that are whole now. Raises TooLarge, Throttled, and Invalid for a prefix that is none."""
        self._memory.held += stop - start
        stream.held += stop - start
        if self._memory.held > self._memory.limit:
            raise Throttled("The server holds too many unfinished messages.")
        if stream.assembler is None:
            stream.assembler = Assembler(self._limit)
        return stream.assembler.feed(data, start, stop)

    # -- methods ----------------------------------------------------------------------------------------------------

    def _unary(self, stream: Stream, payload: Buffer) -> None:
        route = stream.route
        assert route.unary is not None
        try:
            answer = route.unary(
                payload, route.call if route.timeout is None else self._timed(route.call, route.timeout)
            )
            if isinstance(answer, list):
                self._sender.answer(stream, answer)
                return
        except Exception as error:
            self.fail(stream, error)
            return
        self._start(stream, partial(self._later, stream, answer))

    def _timed(self, call: Call, timeout: float) -> Call:
        return replace(call, deadline=time.monotonic() + timeout)

    def _start(self, stream: Stream, work: Callable[[], Awaitable[None]]) -> None:
        stream.task = self._loop.create_task(self._guarded(stream, work))

    async def _guarded(self, stream: Stream, work: Callable[[], Awaitable[None]]) -> None:
        """Run a call's work within its deadline; what it raises is its answer."""
        timeout = stream.route.timeout
        try:
            if timeout is None:
                await work()
            else:
                async with asyncio.timeout(timeout):
                    await work()
        except TimeoutError:
            self.fail(stream, TimedOut(f"The call's deadline of {timeout:g} s has passed."))
        except asyncio.CancelledError:
            if stream.gone:
                return
            self.fail(stream, Unavailable("The server stops.", hint="Try again."))
            raise
        except Exception as error:
            self.fail(stream, error)
        finally:
            self._sender.later()

    async def _later(self, stream: Stream, answer: Awaitable[Parts]) -> None:
        parts = await answer
        if not stream.gone:
            self._sender.answer(stream, parts)

    async def _compressed(self, stream: Stream, payload: Buffer, compressed: bool) -> None:
        """A unary call of a client that compresses; the answer is compressed too where that is worthwhile."""
        route = stream.route
        assert route.unary is not None
        if compressed:
            payload = await decompress(payload, route.encoding, self._limit)
        call = route.call if route.timeout is None else self._timed(route.call, route.timeout)
        answer = route.unary(payload, call)
        parts = answer if isinstance(answer, list) else await answer
        if sum(len(part) for part in parts) < WORTHWHILE or route.encoding not in route.accepts:
            if not stream.gone:
                self._sender.answer(stream, parts)
            return
        packed = await compress(parts, route.encoding)
        if not stream.gone:
            self._sender.block(stream.number, INITIAL_COMPRESSED[route.encoding])
            stream.opened = True
            self._sender.message(stream, [packed], len(packed), compressed=True)
            self._sender.finish(stream, OK_TRAILERS)

    async def _streaming(self, stream: Stream, inbox: Inbox) -> None:
        route = stream.route
        assert route.method is not None
        assert route.method.streaming is not None
        call = route.call if route.timeout is None else self._timed(route.call, route.timeout)
        async with aclosing(route.method.streaming(self._messages(inbox, route.encoding), call)) as answers:
            async for parts in answers:
                if not stream.opened:
                    stream.opened = True
                    self._sender.block(stream.number, INITIAL)
                self._sender.message(stream, parts, sum(len(part) for part in parts))
                self._sender.later()
                await stream.drained()
        if not stream.opened:
            self._sender.block(stream.number, INITIAL)
        self._sender.finish(stream, OK_TRAILERS)

    async def _messages(self, inbox: Inbox, encoding: str) -> AsyncIterator[Buffer]:
        async for compressed, payload in inbox:
            yield await decompress(payload, encoding, self._limit) if compressed else payload

    # -- ends -------------------------------------------------------------------------------------------------------

    def fail(self, stream: Stream, error: Exception, fields: dict[str, str] | None = None) -> None:
        """End a call with an error. What is no kernel error is a defect: it goes to the log, not to the caller."""
        if stream.gone or stream.trailers is not None:
            return
        if isinstance(error, NotReady):
            fields = {"grpc-retry-pushback-ms": str(int(error.retry_after * 1000))}
        if isinstance(error, Error):
            stream.code = code_of(error)
            block = trailers(stream.code, text_of(error), fields)
        else:
            _log.error("%s failed", stream.route.path, exc_info=error)
            stream.code = Code.INTERNAL
            block = trailers(Code.INTERNAL, "The server failed on this call; its log says more.")
        if stream.task is not None and stream.task is not asyncio.current_task(self._loop):
            self.cancel(stream)
        if not stream.opened:
            stream.opened = True
            block = status(200) + CONTENT_TYPE + block
        self._sender.finish(stream, block)

    def cancel(self, stream: Stream) -> None:
        """Nobody waits for the answer any more."""
        if stream.task is not None:
            # Not at once: a task that is cancelled before its first step would never await what it was given.
            self._loop.call_soon(stream.task.cancel)
