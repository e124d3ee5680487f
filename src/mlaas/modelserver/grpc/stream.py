"""One HTTP/2 stream: what came of its messages, what is still to be sent, and who works on it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from mlaas.modelserver.grpc.assembly import Assembler
from mlaas.modelserver.grpc.codec import Buffer
from mlaas.modelserver.grpc.headers import Route


class Stream:
    """Plain state. `window`: what the peer lets us send; `allowed`: what we let it send. `unacknowledged`: bytes that came since
    the last WINDOW_UPDATE. `ended`: the peer has sent all. `gone`: nothing more may be sent. `held`: bytes that count against the
    server's memory for messages."""

    __slots__ = (
        "_drained",
        "allowed",
        "assembler",
        "began",
        "code",
        "ended",
        "gone",
        "held",
        "inbox",
        "message",
        "number",
        "opened",
        "pending",
        "received",
        "route",
        "task",
        "trailers",
        "unacknowledged",
        "window",
    )

    def __init__(self, number: int, route: Route, window: int, allowed: int, ended: bool) -> None:
        self.number = number
        self.route = route
        self.window = window
        self.allowed = allowed
        self.ended = ended
        self.unacknowledged = 0
        self.received = 0
        self.held = 0
        self.assembler: Assembler | None = None  # for messages that take several frames
        self.message: tuple[bool, Buffer] | None = None  # a unary call's, whole, before the end of the stream
        self.inbox: Inbox | None = None
        self.task: asyncio.Task[None] | None = None
        self.opened = False  # our header block is sent
        self.pending: deque[memoryview] | None = None
        self.trailers: bytes | None = None  # what follows the pending data
        self.gone = False
        self.began = 0.0  # time.perf_counter(), for the access log
        self.code = 0  # gRPC's, of the answer
        self._drained: asyncio.Future[None] | None = None

    async def drained(self) -> None:
        """Wait until nothing is pending."""
        if self.pending:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def sent(self) -> None:
        """Nothing is pending any more."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


class Inbox(AsyncIterator[tuple[bool, Buffer]]):
    """The messages of a streaming call, in order, each with whether it is compressed. Ends when the client has sent all.

    `taken` is called with a message's size when the method takes it: only then may the client send as much again.
    """

    def __init__(self, taken: Callable[[int], None]) -> None:
        self._messages: deque[tuple[bool, Buffer]] = deque()
        self._taken = taken
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.size = 0  # bytes of the messages that wait

    def put(self, message: tuple[bool, Buffer]) -> None:
        self._messages.append(message)
        self.size += len(message[1])
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __anext__(self) -> tuple[bool, Buffer]:
        while not self._messages:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.popleft()
        self.size -= len(message[1])
        self._taken(len(message[1]))
        return message
