"""One server with the models of Triton's client examples, and its four clients behind one interface."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tests.integration.modelserver.clients import models
from tests.integration.modelserver.clients.serve import Serving, serve


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folders = models.write(tmp_path_factory.mktemp("repository"))
    with serve("--trust", *map(str, folders)) as found:
        yield found


class Triton:
    """A client of Triton's as a blocking one, whichever it is: calls of the asyncio ones run on a loop of their own.

    `wire` is `http` or `grpc`; `module` has `InferInput` and `InferRequestedOutput` for it.
    """

    def __init__(self, wire: str, module: ModuleType, client: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self.wire, self.module = wire, module
        self._client, self._loop = client, loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._client, name)
        if self._loop is None:
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            assert self._loop is not None
            found = method(*arguments, **named)
            return self._loop.run_until_complete(found) if inspect.isawaitable(found) else found

        return call


_CLIENTS = {
    "http": ("http", tritonclient.http, tritonclient.http),
    "http_aio": ("http", tritonclient.http.aio, tritonclient.http),
    "grpc": ("grpc", tritonclient.grpc, tritonclient.grpc),
    "grpc_aio": ("grpc", tritonclient.grpc.aio, tritonclient.grpc),
}


@pytest.fixture
def connect(serving: Serving) -> Iterator[Callable[..., Triton]]:
    """`connect("grpc_aio", keepalive_options=...)`: a client, closed at the end."""
    loop = asyncio.new_event_loop()
    made: list[Triton] = []

    def make(kind: str, **options: Any) -> Triton:
        wire, package, module = _CLIENTS[kind]
        address = serving.http if wire == "http" else serving.grpc
        aio = kind.endswith("_aio")

        async def opened() -> Any:  # the asyncio clients want a running loop
            return package.InferenceServerClient(address, **options)

        client = loop.run_until_complete(opened()) if aio else package.InferenceServerClient(address, **options)
        made.append(Triton(wire, module, client, loop if aio else None))
        return made[-1]

    yield make
    for client in made:
        client.close()
    loop.close()


@pytest.fixture(params=list(_CLIENTS))
def triton(request: pytest.FixtureRequest, connect: Callable[..., Triton]) -> Triton:
    """Each of the four clients."""
    return connect(request.param)
