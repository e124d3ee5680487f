"""Forwards requests of the platform's port to a server behind it: HTTP, server-sent events and WebSockets, as they come.

Who may was decided before. The caller's credentials go no further; what the server behind needs is the upstream's own. An answer
comes from somebody else's code under the platform's address, so it may neither set cookies there nor run scripts (a sandbox).
"""

import asyncio
import contextlib
import string
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from mlaas.kernel.errors import Invalid, Unavailable

_HOP = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    )
)  # fmt: skip
"""Headers of one hop (RFC 9110, section 7.6.1)."""
_WITHHELD = frozenset(("authorization", "cookie", "expect", "host", "forwarded", "mlaas-project"))
"""What of a request stays here: credentials, and what this side says itself."""
_NOT_BACK = frozenset(("set-cookie", "server", "date", "content-security-policy"))
_HANDSHAKE = "sec-websocket-"
_CONNECT = 5.0
_LARGEST = 64 << 20  # bytes of one WebSocket message


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server behind the platform. `url` is its address without a path; `headers` are set on every request; `missing` says
    what to do while it does not answer."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""


class Gateway:
    """One pool of connections for all that is forwarded."""

    def __init__(self) -> None:
        self._client: Any = None

    async def forward(self, request: Request, upstream: Upstream, path: str) -> Response:
        """The answer, streamed as it comes. `path` is decoded, without the first slash."""
        import httpx2

        if self._client is None:
            timeout = httpx2.Timeout(None, connect=_CONNECT)
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
            self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False)
        return _Forwarded(self._client, request, upstream, path)

    async def close(self) -> None:
        """Let go of its connections; what is forwarded just now breaks off."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def websocket(self, socket: WebSocket, upstream: Upstream, path: str) -> None:
        """Messages both ways until either side closes, whose code and reason the other one is told."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidStatus

        address = upstream.url.replace("http", "ws", 1) + _target(path, socket.scope["query_string"])
        headers = [(key, _text(value)) for key, value in _sent(socket, upstream) if not key.startswith(_HANDSHAKE)]
        offered = [str(name) for name in socket.scope.get("subprotocols") or []]
        options: dict[str, Any] = {"subprotocols": offered or None, "compression": None, "max_size": _LARGEST}
        try:
            behind = await connect(
                address,
                additional_headers=headers,
                user_agent_header=None,
                open_timeout=_CONNECT,
                proxy=None,
                **options,
            )
        except InvalidStatus as refused:
            answer = refused.response
            kind = answer.headers.get("content-type")
            await socket.send_denial_response(Response(bytes(answer.body or b""), answer.status_code, _SAFE, kind))
            return
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise Unavailable(
                f"What is behind '{path[:200]}' takes no WebSocket: {error}.", hint=upstream.missing or None
            ) from None
        async with behind:
            await socket.accept(behind.subprotocol)
            await _first_of(_outward(socket, behind), _inward(socket, behind))


_SAFE = {"content-security-policy": "sandbox", "x-content-type-options": "nosniff"}


class _Forwarded(Response):
    """Sends the request on when it is called, and its answer back piece by piece. A client that goes away cancels both."""

    def __init__(self, client: Any, request: Request, upstream: Upstream, path: str) -> None:
        super().__init__()
        self._client, self._request, self._upstream, self._path = client, request, upstream, path
        self._read = asyncio.Event()  # the whole request body was

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _first_of(self._exchange(receive, send), self._gone(receive))

    async def _exchange(self, receive: Receive, send: Send) -> None:
        import httpx2

        headers = _sent(self._request, self._upstream)
        if "accept-encoding" not in self._request.headers:
            headers.append(("accept-encoding", b"identity"))
        has_body = "content-length" in self._request.headers or "transfer-encoding" in self._request.headers
        if not has_body:
            self._read.set()
        try:
            sent = self._client.build_request(
                self._request.method,
                self._upstream.url + _target(self._path, self._request.scope["query_string"]),
                headers=[(key.encode(), value) for key, value in headers],
                content=self._body(receive) if has_body else None,
            )
        except httpx2.InvalidURL as error:
            raise Invalid(f"The path and the query cannot be sent on: {error}.", field="path") from None
        try:
            answer = await self._client.send(sent, stream=True)
        except httpx2.ConnectError:
            raise Unavailable(
                "What is to answer does not answer yet.", hint=self._upstream.missing or "Try again."
            ) from None
        except httpx2.HTTPError as error:
            raise Unavailable(f"The server behind broke off: {type(error).__name__}.", hint="Try again.") from None
        try:
            back = [(key.encode(), value) for key, value in _kept(answer.headers.raw) if key not in _NOT_BACK]
            back += [(key.encode(), value.encode()) for key, value in _SAFE.items()]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": back})
            with contextlib.suppress(httpx2.HTTPError):  # it broke off: the connection is closed before the body's end
                async for piece in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    async def _body(self, receive: Receive) -> AsyncIterator[bytes]:
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                self._read.set()
                return

    async def _gone(self, receive: Receive) -> None:
        """Returns when the client has gone, or has sent what is no part of its request."""
        await self._read.wait()
        while (await receive())["type"] != "http.disconnect":
            pass


async def _first_of(work: Any, other: Any) -> None:
    """Run both until one ends; the other is cancelled. Raises what the one that ended raised."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(other)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled():
            task.result()


async def _outward(socket: WebSocket, behind: Any) -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(WebSocketDisconnect, ConnectionClosed):
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                await behind.close(_code(message.get("code")), str(message.get("reason") or ""))
                return
            await behind.send(message["text"] if message.get("text") is not None else message["bytes"])


async def _inward(socket: WebSocket, behind: Any) -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        async for message in behind:
            await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
    except ConnectionClosed:
        pass
    except (WebSocketDisconnect, RuntimeError):
        return  # the client went while something was on its way to it
    await socket.close(_code(behind.close_code), behind.close_reason or "")


def _code(code: int | None) -> int:
    """A close code that may be sent (RFC 6455, section 7.4): 1005, 1006 and 1015 only say that none came."""
    return code if code is not None and code not in (1005, 1006, 1015) else 1000 if code in (None, 1005) else 1011


def _target(path: str, query: bytes) -> str:
    """Path and query as they are sent: what was decoded is encoded again, so that no part can become another one."""
    target = "/" + quote(path, safe="/:@!$&'()*+,;=-._~")
    return f"{target}?{quote(query, safe=string.punctuation)}" if query else target


def _sent(connection: HTTPConnection, upstream: Upstream) -> list[tuple[str, bytes]]:
    """The headers that go on: not those of this hop, not the caller's credentials; and where the request came from."""
    own = {key.lower(): value.encode("latin-1") for key, value in upstream.headers.items()}
    found = [(key, value) for key, value in _kept(connection.scope["headers"]) if key not in _WITHHELD | own.keys()]
    found = [(key, value) for key, value in found if not key.startswith("x-forwarded-")]
    came = {
        "x-forwarded-proto": "https" if connection.url.scheme in ("https", "wss") else "http",
        "x-forwarded-host": connection.headers.get("host", ""),
        "x-forwarded-for": connection.client.host if connection.client else "",
    }
    return [*found, *own.items(), *((key, value.encode("latin-1")) for key, value in came.items() if value)]


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, bytes]]:
    """All but those of one hop, and those that `Connection` names. A name is ASCII, a value any bytes (RFC 9110, 5.5)."""
    found = [(key.decode("latin-1").lower(), value) for key, value in headers]
    named = {
        word.strip().lower()
        for key, value in found
        if key == "connection"
        for word in value.decode("latin-1").split(",")
    }
    return [(key, value) for key, value in found if key not in _HOP and key not in named]


def _text(value: bytes) -> str:
    """A header's value for a library that takes text and sends UTF-8."""
    return value.decode("utf-8", "replace")
