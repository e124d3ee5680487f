"""A gRPC server with the models of models.py, on an event loop of its own thread: synchronous clients would block ours."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from tests.integration.modelserver.grpc import models

from mlaas.modelserver.dispatch import Dispatch
from mlaas.modelserver.grpc.limits import Limits
from mlaas.modelserver.grpc.server import Server


@dataclass
class Running:
    """A server that answers at `port`."""

    loop: asyncio.AbstractEventLoop
    server: Server
    dispatch: Dispatch
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def do(self, work: Callable[[], Any]) -> Any:
        """Call a function on the server's loop; what it returns, awaited."""

        async def step() -> Any:
            found = work()
            return await found if isinstance(found, Awaitable) else found

        return asyncio.run_coroutine_threadsafe(step(), self.loop).result(30)

    def predictor(self, name: str) -> Any:
        return self.dispatch.repository.find("default", name).version().predictor


def start(limits: Limits | None = None, dispatch: Dispatch | None = None) -> Iterator[Running]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    found = dispatch or models.served()
    running = Running(loop, Server(found, limits), found)
    running.port = running.do(lambda: running.server.listen(port=0))
    yield running
    running.do(lambda: running.server.close(0.2))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    yield from start()
