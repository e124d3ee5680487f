"""POST over one kept HTTP/1.1 connection, as cheap as payload logging beside the request path needs it: an event costs the loop
some tens of microseconds, with a general client some hundred."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httptools

_PRINTED = "!#$%&'()*+,/:;=?@[]~"  # what a request target is made of besides letters, digits and -._
_LONGEST = 1 << 20  # bytes of an answer that are read


class Poster:
    """A connection to one URL, opened when it is needed; one request at a time. A user and password in the URL are sent as Basic
    credentials."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._timeout = timeout
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PRINTED)
        host = parts.netloc.rpartition("@")[2]
        lines = [f"POST {path} HTTP/1.1", f"host: {host}"]
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            lines.append(f"authorization: Basic {base64.b64encode(pair.encode()).decode()}")
        self._head = "\r\n".join(lines).encode("ascii", "replace")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. `headers` are ASCII without line breaks. Raises OSError, TimeoutError, EOFError or
        httptools.HttpParserError."""
        lines = [self._head, *(f"{name}: {value}".encode("ascii") for name, value in headers.items())]
        message = b"\r\n".join((*lines, b"content-length: %d" % len(body), b"", body))
        try:
            async with asyncio.timeout(self._timeout):
                kept = self._streams is not None
                try:
                    return await self._exchange(message)
                except (EOFError, ConnectionError):
                    self.close()
                    if not kept:
                        raise
                return await self._exchange(message)  # the other side had closed the kept connection meanwhile
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Repeating it changes nothing."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def _exchange(self, message: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls or None)
        reader, writer = self._streams
        answer = _Answer()
        writer.write(message)
        size = 0
        while not answer.complete:
            data = await reader.read(1 << 16)
            size += len(data)
            if not data or size > _LONGEST:
                raise EOFError("the connection was closed before the answer" if not data else "the answer is too long")
            answer.parser.feed_data(data)
        if not answer.keeps:
            self.close()
        return answer.status


class _Answer:
    def __init__(self) -> None:
        self.parser: Any = httptools.HttpResponseParser(self)
        self.status = 0
        self.keeps = False
        self.complete = False

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.keeps = self.parser.should_keep_alive()

    def on_message_complete(self) -> None:
        self.complete = self.status >= 200  # 100 Continue and 103 Early Hints come before it
