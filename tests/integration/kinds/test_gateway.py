"""The gateway to services between two real servers: what goes on, what comes back, and when."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mlaas.api.app import create_app
from mlaas.app import _websocket, find_kinds
from mlaas.kernel.auth import Authenticator
from mlaas.kernel.blobs.open import open_blobs
from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanServe
from mlaas.kernel.resource import Meta, Resource
from mlaas.kernel.settings import Settings
from mlaas.kernel.store.open import open_database
from mlaas.kinds.service import routes


class Behind:
    """A server that tells what it was asked, streams on demand, and talks over WebSockets."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.arrived, self.cancelled = asyncio.Event(), asyncio.Event()
        self.closed: tuple[int, str] | None = None
        self.app = Starlette(
            routes=[
                Route("/v1/models/iris:predict", self.echo, methods=["POST", "PUT", "GET"]),
                Route("/v2/models/iris/generate_stream", self.events),
                Route("/v2/models/iris/infer", self.hang, methods=["POST"]),
                Route("/v2/models/iris/bytes", self.bytes_),
                WebSocketRoute("/v2/models/iris/refused", self.refused),
                Route("/v2/models/iris/broken", self.broken),
                WebSocketRoute("/v2/models/iris/socket", self.socket),
            ]
        )

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        found = {
            "method": request.method,
            "query": request.url.query,
            "path": request.scope["raw_path"].decode(),
            "headers": sorted([key, value] for key, value in request.headers.items()),
            "raw": [[key.decode(), value.hex()] for key, value in request.scope["headers"]],
            "size": len(body),
        }
        extra = {"set-cookie": "stolen=1", "connection": "x-hop", "x-hop": "1", "x-stays": "1"}
        answer = JSONResponse(found, headers=extra)
        answer.raw_headers += [(b"x-unit", "°C".encode()), (b"x-twice", b"1"), (b"x-twice", b"2")]
        return answer

    async def events(self, request: Request) -> Response:
        async def made() -> AsyncIterator[bytes]:
            try:
                yield b"data: first\n\n"
                await self.go_on.wait()
                yield b"data: last\n\n"
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        return StreamingResponse(made(), media_type="text/event-stream")

    async def hang(self, request: Request) -> Response:
        await request.body()
        self.arrived.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.cancelled.set()
        return Response()

    async def bytes_(self, request: Request) -> Response:
        return Response(bytes(range(256)) * 1000, media_type="application/octet-stream")

    async def refused(self, socket: WebSocket) -> None:
        await socket.send_denial_response(JSONResponse({"error": "no socket here"}, 418))

    async def broken(self, request: Request) -> Response:
        async def made() -> AsyncIterator[bytes]:
            yield b"half"
            raise ConnectionResetError

        return StreamingResponse(made())

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept("chat" if "chat" in socket.scope["subprotocols"] else None)
        await socket.send_json({"headers": dict(socket.headers), "query": socket.url.query})
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    self.closed = message["code"], message.get("reason") or ""
                    return
                if message.get("text") == "bye":
                    await socket.close(4001, "as asked")
                    return
                if message.get("text") is not None:
                    await socket.send_text(message["text"].upper())
                else:
                    await socket.send_bytes(message["bytes"][::-1])
        except WebSocketDisconnect:
            pass


class Engine(CanServe):
    def __init__(self, url: str) -> None:
        self.url = url

    def server(self) -> None:
        return None

    async def serve(self, table: dict[str, Any]) -> dict[tuple[str, str], str]:
        return {}

    async def admit(self, admission: dict[str, Any]) -> None:
        pass

    async def serving(self) -> dict[str, Any]:
        return {}

    async def tails(self, project: str, name: str) -> dict[str, Any]:
        return {}

    def addresses(self) -> dict[str, str]:
        return {"http": self.url, "grpc": ""}


@contextlib.asynccontextmanager
async def served(app: Any, ws: Any = "websockets-sansio") -> AsyncIterator[str]:
    config = uvicorn.Config(
        app,
        port=0,
        log_level="warning",
        lifespan="off",
        ws=ws,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


class Setup:
    def __init__(self, context: Context, behind: Behind, base: str, token: str) -> None:
        self.context, self.behind = context, behind
        self.url = f"{base}/api/v1/projects/default/services/iris/proxy"
        self.base, self.headers = base, {"authorization": f"Bearer {token}"}

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1) + "/v2/models/iris/socket"


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    kinds = find_kinds()
    database = await open_database(tmp_path / "mlaas.db", kinds)
    (tmp_path / "blobs").mkdir()
    context = Context(Settings(data=tmp_path), database, kinds, open_blobs((tmp_path / "blobs").as_uri()))
    context.auth = Authenticator(database)
    await database.create(Resource("project", Meta("default")))
    await database.create(Resource("service", Meta("iris", "default"), {}, {"phase": "Ready"}))
    token, _ = await context.auth.issue("viewer", "viewer", frozenset({"default"}))
    behind = Behind()
    async with served(behind.app) as url:
        context.services = SimpleNamespace(engine=Engine(url), token="own-secret", problem="")
        async with served(create_app(context, extra=[routes.router(context)]), _websocket) as base:
            yield Setup(context, behind, base, token)
            await context.gateway.close()
    await database.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_what_goes_on_and_what_comes_back(setup: Setup) -> None:
    async with httpx2.AsyncClient(headers=setup.headers) as client:
        sent = {
            "cookie": "session=1",
            "connection": "keep-alive, x-private",
            "x-private": "1",
            "te": "trailers",
            "proxy-authorization": "Basic x",
            "mlaas-project": "other",
            "x-forwarded-for": "1.2.3.4",
            "x-request-id": "r1",
            "inference-header-content-length": "2",
        }
        answer = await client.put(f"{setup.url}/v1/models/iris:predict?a=1&b=%2F", content=b"12345", headers=sent)
    found = answer.json()
    headers = dict(found["headers"])
    assert (found["method"], found["query"], found["size"]) == ("PUT", "a=1&b=%2F", 5)
    assert headers["authorization"] == "Bearer own-secret"
    assert headers["mlaas-project"] == "default"
    assert (headers["x-request-id"], headers["inference-header-content-length"]) == ("r1", "2")
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert not {"cookie", "x-private", "te", "proxy-authorization"} & headers.keys()
    assert headers["content-length"] == "5"
    assert answer.headers["x-stays"] == "1"
    assert not {"set-cookie", "x-hop"} & answer.headers.keys()
    assert answer.headers["content-security-policy"] == "sandbox"


async def test_headers_go_on_byte_for_byte_and_as_often_as_they_came(setup: Setup) -> None:
    token = setup.headers["authorization"].encode()
    sent = [(b"x-name", "é".encode("latin-1")), (b"x-name", "€".encode()), (b"authorization", token)]
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{setup.url}/v1/models/iris:predict", headers=sent)
    found = answer.json()["raw"]
    assert [bytes.fromhex(value) for key, value in found if key == "x-name"] == [b"\xe9", "€".encode()]
    assert answer.headers["x-unit"] == "°C"
    assert answer.headers.get_list("x-twice") == ["1", "2"]


@pytest.mark.parametrize("query", ["a=%FF&b=\u00e9", "q=%00%0d%0a", "a=[1]&b={2}&c=|^`", "empty", "a=%2541"])
async def test_a_query_goes_on_as_it_is_meant(setup: Setup, query: str) -> None:
    def meant(text: str) -> list[tuple[str, str]]:
        return parse_qsl(text, keep_blank_values=True, encoding="latin-1")

    async with httpx2.AsyncClient(headers=setup.headers) as client:
        answer = await client.get(f"{setup.url}/v1/models/iris:predict?{query}")
    assert answer.status_code == 200, answer.text
    sent = str(answer.request.url.query, "ascii")
    assert meant(answer.json()["query"]) == meant(sent)


async def test_a_target_that_grows_too_long_is_the_callers_mistake(setup: Setup) -> None:
    address = httpx2.URL(setup.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    target = f"{address.path}/v2/models/iris/{'<' * 25_000}"
    headers = f"Host: x\r\nAuthorization: {setup.headers['authorization']}\r\nConnection: close\r\n"
    writer.write(f"GET {target} HTTP/1.1\r\n{headers}\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 422 "), answer[:1000]
    assert b"URL too long" in answer


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(setup: Setup) -> None:
    async with httpx2.AsyncClient(headers=setup.headers) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(f"{setup.url}/v2/models/iris/broken")


async def test_a_body_of_unknown_length_and_a_large_one_go_through(setup: Setup) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(100_000)

    async with httpx2.AsyncClient(headers=setup.headers, timeout=30) as client:
        answer = await client.post(f"{setup.url}/v1/models/iris:predict", content=pieces())
        assert answer.json()["size"] == 10_000_000
        answer = await client.get(f"{setup.url}/v2/models/iris/bytes")
        assert answer.content == bytes(range(256)) * 1000
        assert answer.headers["content-length"] == "256000"


async def test_an_event_is_seen_before_the_next_one_is_made(setup: Setup) -> None:
    async with (
        httpx2.AsyncClient(headers=setup.headers) as client,
        client.stream("GET", f"{setup.url}/v2/models/iris/generate_stream") as answer,
    ):
        pieces = answer.aiter_raw()
        assert await asyncio.wait_for(anext(pieces), 5) == b"data: first\n\n"
        assert not setup.behind.go_on.is_set()
        setup.behind.go_on.set()
        assert await asyncio.wait_for(anext(pieces), 5) == b"data: last\n\n"


async def test_a_client_that_leaves_a_stream_ends_it(setup: Setup) -> None:
    async with httpx2.AsyncClient(headers=setup.headers) as client:
        async with client.stream("GET", f"{setup.url}/v2/models/iris/generate_stream") as answer:
            await asyncio.wait_for(anext(answer.aiter_raw()), 5)
        await asyncio.wait_for(setup.behind.cancelled.wait(), 5)


async def test_a_client_that_does_not_wait_for_the_answer_ends_the_request(setup: Setup) -> None:
    async with httpx2.AsyncClient(headers=setup.headers) as client:
        waiting = asyncio.create_task(client.post(f"{setup.url}/v2/models/iris/infer", json={}))
        await asyncio.wait_for(setup.behind.arrived.wait(), 5)
        waiting.cancel()
        await asyncio.wait_for(setup.behind.cancelled.wait(), 5)


@pytest.mark.parametrize(
    "path",
    [
        "v2/models/other/infer",
        "v1/models/iris/../other:predict",
        "v1/models/iris%2F..%2Fother:predict",
        "v2/repository/index",
        "v2/repository/models/iris/unload",
        "v1/models",
        "metrics",
        "",
        "projects/other/v2/models/iris",
        "/v2/models/iris/infer",
    ],
)
async def test_other_models_are_not_reached(setup: Setup, path: str) -> None:
    async with httpx2.AsyncClient(headers=setup.headers) as client:
        answer = await client.get(f"{setup.url}/{path}")
    assert answer.status_code == 403, answer.text


async def test_no_part_of_a_path_becomes_another_part(setup: Setup) -> None:
    async with httpx2.AsyncClient(headers=setup.headers) as client:
        for path in ("v2/models/iris/%252e%252e/other", "v2/models/iris/x%3Fy%23z", "v2/models/iris%0d%0aX: y"):
            assert (await client.get(f"{setup.url}/{path}")).status_code in (403, 404)


async def test_without_rights_nothing_is_forwarded(setup: Setup) -> None:
    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"{setup.url}/v2/models/iris/bytes")).status_code == 401
    with pytest.raises(InvalidStatus) as caught:
        await connect(setup.ws)
    assert caught.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as caught:
        await connect(setup.ws.replace("default", "physics"), additional_headers=setup.headers)
    assert caught.value.response.status_code == 403


class TestWebSockets:
    async def test_messages_both_ways(self, setup: Setup) -> None:
        headers = {**setup.headers, "cookie": "session=1", "x-request-id": "r1"}
        async with connect(f"{setup.ws}?a=1", additional_headers=headers, subprotocols=["x", "chat"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "chat"
            first = json.loads(await socket.recv())
            assert first["query"] == "a=1"
            assert first["headers"]["authorization"] == "Bearer own-secret"
            assert first["headers"]["x-request-id"] == "r1"
            assert "cookie" not in first["headers"]
            for _ in range(3):
                await socket.send("text")
                assert await socket.recv() == "TEXT"
                await socket.send(bytes(range(200)))
                assert await socket.recv() == bytes(range(200))[::-1]
            await socket.send("x" * 1_000_000)
            assert await socket.recv() == "X" * 1_000_000

    async def test_the_close_of_either_side_reaches_the_other(self, setup: Setup) -> None:
        async with connect(setup.ws, additional_headers=setup.headers) as socket:
            await socket.recv()
            await socket.send("bye")
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as asked")
        async with connect(setup.ws, additional_headers=setup.headers) as socket:
            await socket.recv()
            await socket.close(4002, "enough")
        await until(lambda: setup.behind.closed == (4002, "enough"))

    async def test_a_client_that_breaks_off_is_told_behind(self, setup: Setup) -> None:
        socket = await connect(setup.ws, additional_headers=setup.headers)
        await socket.recv()
        socket.transport.abort()
        await until(lambda: setup.behind.closed is not None)

    async def test_what_takes_no_socket_says_so(self, setup: Setup) -> None:
        refused = setup.ws.replace("/socket", "/refused")
        with pytest.raises(InvalidStatus) as caught:
            await connect(refused, additional_headers=setup.headers)
        assert caught.value.response.status_code == 418
        assert json.loads(caught.value.response.body or b"") == {"error": "no socket here"}


async def test_a_server_that_is_away_is_503_with_the_reason(setup: Setup) -> None:
    setup.context.services = SimpleNamespace(engine=Engine("http://127.0.0.1:9"), token="x", problem="it starts")
    async with httpx2.AsyncClient(headers=setup.headers) as client:
        answer = await client.get(f"{setup.url}/v2/models/iris/bytes")
        assert (answer.status_code, answer.json()["hint"]) == (503, "it starts")
    with pytest.raises(InvalidStatus) as caught:
        await connect(setup.ws, additional_headers=setup.headers)
    assert caught.value.response.status_code == 503
