"""One front: a repository behind its protocols, from binding to the last answer."""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlaas.modelserver import accesslog
from mlaas.modelserver.dispatch import Dispatch
from mlaas.modelserver.http.api import Api
from mlaas.modelserver.http.listener import Listener
from mlaas.modelserver.http.port import Limits
from mlaas.modelserver.http.routes import install

_log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that requests in progress have once the server is told to stop."""


class Side(Protocol):
    """Another protocol beside HTTP (gRPC): started with the front, drained with it."""

    async def start(self) -> None: ...

    async def drain(self, seconds: float) -> None: ...


@dataclass(slots=True)
class Front:
    """The parts of one front. `sockets` are bound; more routes are registered at `api` before `serve`."""

    dispatch: Dispatch
    sockets: list[socket.socket]
    limits: Limits = field(default_factory=Limits)
    access_log: bool = False
    sides: list[Side] = field(default_factory=list)
    api: Api = field(init=False)
    listener: Listener = field(init=False)

    def __post_init__(self) -> None:
        self.api = Api(self.dispatch, self.limits)
        install(self.api)
        self.listener = Listener(self.api, self.limits, accesslog.request if self.access_log else None)

        self.api.gauges["mlaas_http_connections"] = lambda: float(len(self.listener.connections))

    async def start(self) -> None:
        await self.listener.start(self.sockets)
        for side in self.sides:
            await side.start()

    async def drain(self, seconds: float = GRACE) -> None:
        """Stop: readiness says no, nothing new is accepted, what is in progress is answered."""
        self.dispatch.draining = True
        await asyncio.gather(self.listener.drain(seconds), *(side.drain(seconds) for side in self.sides))
        for model in self.dispatch.repository.models():
            for served in model.versions.values():
                if served.predictor is not None:
                    await served.predictor.close()


async def serve(front: Front, loaded: Callable[[], Awaitable[Any]] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `loaded` fills the repository once the ports answer (live, not yet ready)."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await front.start()
    waiting = loop.create_task(stopped.wait())
    try:
        if loaded is not None:
            loading = asyncio.ensure_future(loaded())
            await asyncio.wait((loading, waiting), return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
            else:
                loading.result()
        front.dispatch.started = True
        await waiting
    finally:
        waiting.cancel()
        await front.drain()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function on uvloop."""
    import uvloop

    async def entry() -> None:
        await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(entry())
