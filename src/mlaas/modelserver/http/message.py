"""Requests and replies of HTTP/1.1 (RFC 9112), as plain as the request path needs them."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import orjson

from mlaas.kernel.errors import Error
from mlaas.modelserver.errors import http_status

JSON = b"application/json"

REASONS = {
    100: b"Continue", 200: b"OK", 204: b"No Content", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden",
    404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict", 411: b"Length Required",
    413: b"Content Too Large", 414: b"URI Too Long", 415: b"Unsupported Media Type", 417: b"Expectation Failed",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported", 507: b"Insufficient Storage",
}  # fmt: skip


class TooManyHeaders(Error):
    """The request line and headers are longer than what is read."""

    code = "headers-too-large"
    status = 431


class LateRequest(Error):
    """The request did not arrive in time."""

    code = "request-timeout"
    status = 408


class MethodNotAllowed(Error):
    """The route does not take this method; `allow` names those it does."""

    code = "method-not-allowed"
    status = 405
    allow: ClassVar[bytes] = b""

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"{method} is not for this address; it takes {allow}.")
        self.methods = allow.encode()


class HttpRequest:
    """One request. `headers` have lower-case names; of a repeated one the last counts. `body` is the content as sent: bytes,
    or a bytearray that nobody else holds."""

    __slots__ = (
        "body",
        "headers",
        "keep_alive",
        "method",
        "path",
        "peer",
        "peer_port",
        "query",
        "refused",
        "started",
        "version",
    )

    def __init__(self, method: bytes, path: bytes, query: bytes, headers: dict[bytes, bytes], version: str) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.version = version
        self.keep_alive = True
        self.body: bytes | bytearray = b""
        self.refused: Error | None = None  # found while it was read: answered with this, in its turn
        self.started = 0.0  # time.perf_counter(), for the access log
        self.peer = ""
        self.peer_port = 0

    def header(self, name: bytes) -> str:
        """A header's value as text, "" where there is none."""
        return self.headers.get(name, b"").decode("latin-1")


class Reply:
    """One reply: a body in one or more parts, or a stream of parts."""

    __slots__ = ("body", "close", "content_type", "headers", "parts", "status", "stream")

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        content_type: bytes = JSON,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        parts: list[bytes | memoryview] | None = None,
        stream: AsyncIterator[bytes] | None = None,
        close: bool = False,
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers = headers
        self.parts = parts  # after `body`, written without joining them
        self.stream = stream
        self.close = close

    @property
    def length(self) -> int:
        return len(self.body) + (sum(len(part) for part in self.parts) if self.parts else 0)


def json_reply(document: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """A JSON document; NumPy arrays in it become lists, numbers that are not finite become null."""
    return Reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), status, JSON, headers)


def error_text(error: Error) -> str:
    """Message and hint in one text, as V1 and V2 errors are one text."""
    return f"{error.message} {error.hint}" if error.hint else error.message


def error_reply(error: Error) -> Reply:
    """`{"error": text}` with the status of the error; 503 and 429 say when to try again."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.methods))
    retry = getattr(error, "retry_after", None)
    if retry is not None:
        headers.append((b"retry-after", str(max(1, round(retry))).encode()))
    return json_reply({"error": error_text(error)}, http_status(error), tuple(headers))


def head(reply: Reply, request: HttpRequest, date: bytes, *, chunked: bool, close: bool) -> bytes:
    """The status line and headers of a reply, with the empty line."""
    status = reply.status
    lines = [b"HTTP/1.1 %d %s\r\ndate: %s" % (status, REASONS.get(status, b"Error"), date)]
    if reply.body or reply.parts or reply.stream is not None:
        lines.append(b"content-type: " + reply.content_type)
    lines += [name + b": " + value for name, value in reply.headers]
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    elif reply.stream is None and status != 204:
        lines.append(b"content-length: %d" % reply.length)
    if close:
        lines.append(b"connection: close")
    elif request.version == "1.0":
        lines.append(b"connection: keep-alive")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)
