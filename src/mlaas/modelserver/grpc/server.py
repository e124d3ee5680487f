"""The gRPC server: a listening socket, its connections, and how they end."""

import asyncio
import logging
import socket
from collections.abc import Callable

from mlaas.modelserver.dispatch import Dispatch
from mlaas.modelserver.grpc.call import Method
from mlaas.modelserver.grpc.connection import Connection
from mlaas.modelserver.grpc.extensions import Extensions
from mlaas.modelserver.grpc.headers import Route
from mlaas.modelserver.grpc.health import Health
from mlaas.modelserver.grpc.limits import Limits, Memory
from mlaas.modelserver.grpc.messages import INFERENCE
from mlaas.modelserver.grpc.reflection import Reflection
from mlaas.modelserver.grpc.service import InferenceService
from mlaas.modelserver.grpc.streaming import StreamInfer

_log = logging.getLogger(__name__)

_SWEEP = 5.0


class Server:
    """Answers GRPCInferenceService for what a dispatch serves. Use from one event loop.

    `access` is called at the end of each call with its route, gRPC's status code and when it began (time.perf_counter()).
    """

    def __init__(
        self,
        dispatch: Dispatch,
        limits: Limits | None = None,
        access: Callable[[Route, int, float], None] | None = None,
    ) -> None:
        self.access = access
        self._limits = limits or Limits()
        self._memory = Memory(self._limits.unfinished)
        service = InferenceService(dispatch)
        self._methods = {
            **service.methods,
            **Extensions(dispatch).methods,
            f"/{INFERENCE}/ModelStreamInfer": Method(streaming=StreamInfer(service)),
            **Health(service).methods,
            **Reflection().methods,
        }
        self._connections: set[Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    async def listen(self, host: str = "127.0.0.1", port: int = 8001, sock: socket.socket | None = None) -> int:
        """Start to answer on an address, or on a socket that listens already. Returns the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        if sock is not None:
            listener = await loop.create_server(self._connection, sock=sock, backlog=1024)
        else:
            listener = await loop.create_server(self._connection, host, port, backlog=1024)
        self._listeners.append(listener)
        if self._sweeper is None:
            self._sweeper = loop.create_task(self._sweep())
        return int(listener.sockets[0].getsockname()[1])

    async def close(self, grace: float = 10.0) -> None:
        """Take no new connections, finish the calls that are under way for at most `grace` seconds, then close."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            _log.warning("%d gRPC connections are cut off after %g s", len(self._connections), grace)
            for connection in list(self._connections):
                connection.abort()
            await self._empty.wait()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _connection(self) -> Connection:
        return Connection(self, self._methods, self._limits, self._memory)

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def joined(self, connection: Connection) -> None:
        """A connection is made."""
        self._connections.add(connection)
        self._empty.clear()
        if len(self._connections) > self._limits.connections:
            _log.warning("More than %d gRPC connections: one is refused", self._limits.connections)
            connection.abort()

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            for connection in list(self._connections):
                connection.sweep(_SWEEP)
