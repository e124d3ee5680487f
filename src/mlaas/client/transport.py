"""What both clients share of HTTP: headers, errors, server-sent events."""

from collections.abc import Iterator
from typing import Any

import orjson

from mlaas.client.calls import Call
from mlaas.client.connection import Connection
from mlaas.client.errors import ApiError


def headers(connection: Connection) -> dict[str, str]:
    return {"Authorization": f"Bearer {connection.token}"} if connection.token else {}


def arguments(call: Call) -> dict[str, Any]:
    """Keyword arguments of httpx's `request` for this call."""
    content, extra = call.content, dict(call.headers)
    if call.body is not None:
        content = orjson.dumps(call.body)
        extra.setdefault("Content-Type", "application/json")
    return {"params": dict(call.query) or None, "content": content, "headers": extra}


def parse(status: int, content_type: str, content: bytes) -> Any:
    """The answer's document (None when empty); raises ApiError for a 4xx or 5xx."""
    document: Any = None
    if content and "json" in content_type:
        document = orjson.loads(content)
    if status >= 400:
        if not isinstance(document, dict):
            document = {"detail": content[:500].decode(errors="replace") or f"HTTP {status}"}
        raise ApiError(status, document)
    return document


class EventParser:
    """Server-sent events (WHATWG HTML, section 9.2) out of lines; `last_id` is where to resume."""

    def __init__(self) -> None:
        self.last_id = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Iterator[tuple[str, str]]:
        """Yields (event, data) when `line` completes one."""
        line = line.rstrip("\r\n")
        if not line:
            if self._data or self._event:
                yield self._event or "message", "\n".join(self._data)
            self._event, self._data = "", []
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value
