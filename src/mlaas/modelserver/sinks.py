"""Where payload logs go: a URL (the binary mode of the CloudEvents HTTP binding, one event a request), a file (structured
events, one a line) or the bus of the platform that the server runs beside."""

import asyncio
import fcntl
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import orjson

from mlaas.kernel.errors import Error, Invalid, Unavailable
from mlaas.kernel.events import CloudEvent
from mlaas.modelserver.http.posting import Poster

bus: Callable[[list[str]], Awaitable[None]] | None = None
"""Takes events for the platform's bus, each in the JSON event format; set by a server that runs beside a platform."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


class Refused(Error):
    """The sink does not take the event, and will not another time either."""

    code = "event-refused"
    status = 502


class Sink(ABC):
    """Takes events. `batch` is how many at once at most, `senders` how many calls of `deliver` may run side by side."""

    batch = 1
    senders = 1

    @abstractmethod
    async def deliver(self, events: list[CloudEvent]) -> None:
        """Returns when they are with the sink. Raises whatever is wrong: Refused where trying again is of no use."""

    async def close(self) -> None:
        """Let go of connections."""


class Url(Sink):
    """POST, over a few kept connections. Redirects are not followed."""

    senders = 8

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Poster] = []

    async def deliver(self, events: list[CloudEvent]) -> None:
        poster = self._idle.pop() if self._idle else Poster(self._url)
        try:
            for event in events:
                status = await poster.post(event.headers(), event.data)
                if status >= 500 or status in (408, 425, 429):
                    raise Unavailable(f"The sink answers {status}.")
                if status >= 300:
                    raise Refused(f"The sink answers {status}.")
        finally:
            self._idle.append(poster)

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class File(Sink):
    """Appends whole lines, so that several processes may write to one file."""

    batch = 200

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, events: list[CloudEvent]) -> None:
        await asyncio.to_thread(self._append, b"".join(_json(event) + b"\n" for event in events))

    def _append(self, lines: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            start = os.fstat(file.fileno()).st_size
            written = file.write(lines)
            if written < len(lines):  # the disk is full: no half a line is left
                file.truncate(start)
                raise OSError(f"only {written} of {len(lines)} bytes could be written")


class Bus(Sink):
    """The bus of the platform beside this server."""

    batch = 200

    async def deliver(self, events: list[CloudEvent]) -> None:
        if bus is None:
            raise Refused("This server runs beside no platform, so there is no bus.")
        await bus([_json(event).decode() for event in events])


def sink(url: str) -> Sink:
    """The sink of a logger's URL. Raises Invalid for one that is none."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and _port(parts):
        return Url(url)
    if parts.scheme == "file" and parts.path:
        return File(Path(unquote(parts.path)))
    if parts.scheme == "bus":
        return Bus()
    raise Invalid(
        f"A logger's url is http(s)://, file:/// or bus://, not '{without_credentials(url)}'.", field="logger.url"
    )


def _port(parts: SplitResult) -> bool:
    """Whether it names a host, and a port that can be one."""
    try:
        return parts.port != 0 and bool(parts.hostname)
    except ValueError:
        return False


def without_credentials(text: str) -> str:
    """The same without the user and password of a URL in it."""
    return _CREDENTIALS.sub("", text)


def _json(event: CloudEvent) -> bytes:
    """The JSON event format, with the data, which is JSON already, as it is."""
    return orjson.dumps({**event.attributes(), "data": orjson.Fragment(event.data)})
