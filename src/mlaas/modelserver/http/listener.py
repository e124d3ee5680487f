"""What the connections of one HTTP port share: the application, the limits, the receive buffer, the sweep of deadlines."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from time import perf_counter

from mlaas.modelserver.http.heads import Heads
from mlaas.modelserver.http.message import HttpRequest, Reply
from mlaas.modelserver.http.protocol import Connection

_HELD = 0.0005  # seconds that a reply may wait for others

Application = Callable[[HttpRequest], Reply | Awaitable[Reply]]
"""Answers a request; raises nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how slowly a client may send."""

    body_bytes: int = 64 << 20  # of a body, as sent and after decompression
    header_bytes: int = 64 << 10  # of request line and headers
    header_seconds: float = 10.0  # from the first byte to the end of the headers
    body_seconds: float = 20.0  # for a body, beside one second for each `body_rate` bytes received
    body_rate: float = 4096.0
    idle_seconds: float = 75.0  # between requests of one connection
    write_seconds: float = 60.0  # a client that does not read its reply


class Listener:
    """Accepts connections on sockets that are bound already."""

    def __init__(
        self,
        application: Application,
        limits: Limits | None = None,
        log: Callable[[HttpRequest, int, int], None] | None = None,
    ) -> None:
        self.application = application
        self.limits = limits or Limits()
        self.log = log
        self.connections: set[Connection] = set()
        self.draining = False
        self.date = b""
        self.ok_head = b""
        self.store = bytearray(1 << 18)  # one for all: filled and read in one step of the loop
        self.buffer = memoryview(self.store)
        self.heads = Heads()
        self._unwritten: list[Connection] = []  # whose replies wait for the end of this turn of the loop
        self._unwritten_since = 0.0
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._tick()

    async def start(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(await loop.create_server(lambda: Connection(self), sock=sock, backlog=1024))
        self._sweep(loop)

    def flush_later(self, connection: Connection) -> None:
        """Have a connection's replies written at the end of this turn of the loop, after those requests that have come
        meanwhile: a client that is written to at once wakes up for each reply, which costs more than the reply. None waits
        longer than `_HELD` and one request."""
        if len(self.connections) == 1:
            connection.flush()
            return
        if not self._unwritten:
            self._unwritten_since = perf_counter()
            asyncio.get_running_loop().call_soon(self._flush)
        self._unwritten.append(connection)
        if perf_counter() - self._unwritten_since > _HELD:
            self._flush()

    def _flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for connection in unwritten:
            connection.flush()

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, let requests in progress be answered for at most `seconds`, then cut what is left."""
        self.draining = True
        for server in self._servers:
            server.close()
        deadline = asyncio.get_running_loop().time() + seconds
        while self.connections and asyncio.get_running_loop().time() < deadline:
            for connection in list(self.connections):
                connection.stop()
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.sleep(0)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tick()
        now = loop.time()
        for connection in list(self.connections):
            connection.sweep(now)
        self._sweeper = loop.call_later(1.0, self._sweep, loop)

    def _tick(self) -> None:
        self.date = formatdate(usegmt=True).encode()
        self.ok_head = (
            b"HTTP/1.1 200 OK\r\ndate: " + self.date + b"\r\ncontent-type: application/json\r\ncontent-length: "
        )
