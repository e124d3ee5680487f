"""What the connections of one HTTP port share: the application, the limits, the receive buffer, the replies of a turn."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from time import perf_counter
from typing import Protocol

from mlaas.modelserver.http.heads import Heads
from mlaas.modelserver.http.message import HttpRequest, Reply

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


class Connected(Protocol):
    """A connection, as its port sees it."""

    def flush(self) -> None:
        """Write the replies that wait."""

    def stop(self) -> None:
        """Take no further request."""

    def sweep(self, now: float) -> None:
        """Look at its deadline."""

    def abort(self) -> None:
        """End at once."""


class Port:
    """See the module. `log` is called with each request, the status and the bytes of its reply."""

    def __init__(
        self,
        application: Application,
        limits: Limits | None = None,
        log: Callable[[HttpRequest, int, int], None] | None = None,
    ) -> None:
        self.application = application
        self.limits = limits or Limits()
        self.log = log
        self.connections: set[Connected] = set()
        self.draining = False
        self.date = b""
        self.ok_head = b""
        self.store = bytearray(1 << 18)  # one for all: filled and read in one step of the loop
        self.buffer = memoryview(self.store)
        self.heads = Heads()
        self._unwritten: list[Connected] = []  # whose replies wait for the end of this turn of the loop
        self._unwritten_since = 0.0
        self.tick()

    def flush_later(self, connection: Connected) -> None:
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

    def tick(self) -> None:
        """Replies carry the time of now: called once a second."""
        self.date = formatdate(usegmt=True).encode()
        self.ok_head = (
            b"HTTP/1.1 200 OK\r\ndate: " + self.date + b"\r\ncontent-type: application/json\r\ncontent-length: "
        )
