"""Listens on an HTTP port: accepts connections, looks at their deadlines, ends them."""

import asyncio
import socket
from collections.abc import Callable

from mlaas.modelserver.http.message import HttpRequest
from mlaas.modelserver.http.port import Application, Limits, Port
from mlaas.modelserver.http.protocol import Connection


class Listener(Port):
    """Accepts connections on sockets that are bound already."""

    def __init__(
        self,
        application: Application,
        limits: Limits | None = None,
        log: Callable[[HttpRequest, int, int], None] | None = None,
    ) -> None:
        super().__init__(application, limits, log)
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._servers.append(await loop.create_server(lambda: Connection(self), sock=sock, backlog=1024))
        self._sweep(loop)

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
        self.tick()
        now = loop.time()
        for connection in list(self.connections):
            connection.sweep(now)
        self._sweeper = loop.call_later(1.0, self._sweep, loop)
