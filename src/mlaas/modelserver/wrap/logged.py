"""Payload logging: requests and responses as CloudEvents 1.0, to a URL, a file or the bus.

Types, extensions and rules are KServe's logger's: `org.kubeflow.serving.inference.request|response`, the id is the request's own
(or a new one), responses are logged only when they succeeded. The queue is bounded: what does not fit is dropped and counted,
and no client waits for it.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from mlaas.kernel.errors import Invalid
from mlaas.kernel.events import CloudEvent
from mlaas.modelserver import documents
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature
from mlaas.modelserver.table import Logger

QUEUED = 1000
"""Events that wait for their sink; what comes on top is dropped."""

_QUEUED_BYTES = 64 << 20
_REQUEST, _RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
_TRIES = 3

bus: Callable[[CloudEvent], Awaitable[None]] | None = None
"""Where `bus://` events go; set by whoever runs the server beside a bus."""


class Logged(Predictor):
    """Logs what goes in and out of `inner` according to `logger`."""

    def __init__(
        self, inner: Predictor, logger: Logger, project: str, service: str, component: str = "predictor"
    ) -> None:
        self._inner = inner
        self._mode = logger.mode
        self._project, self._service, self._component = project, service, component
        self._metadata = orjson.dumps(logger.metadata).decode() if logger.metadata else ""
        self._sink = _sink(logger.url)
        self._url = logger.url
        self._waiting: list[tuple[CloudEvent, int]] = []
        self._bytes = 0
        self._sender: asyncio.Task[None] | None = None
        self.counts = {"sent": 0, "dropped": 0, "failed": 0}
        self.error = ""

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        return self._inner.signature

    def wake(self) -> Awaitable[None] | None:
        return self._inner.wake()

    def ready(self) -> bool:
        return self._inner.ready()

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        identity = self._log_request(request)
        answer = self._inner.infer(request)
        if isinstance(answer, Response):
            self._log_response(request, answer, identity)
            return answer
        return self._follow(request, answer, identity)

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        identity = self._log_request(request)
        async for piece in self._inner.stream(request):
            self._log_response(request, piece, identity)
            yield piece

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        return self._inner.explain(request)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = {"url": self._url, "waiting": len(self._waiting), **self.counts}
        if self.error:
            found["error"] = self.error
        return self._inner.status() | {"logger": found}

    def memory(self) -> int:
        return self._inner.memory()

    async def flush(self, timeout: float = 5.0) -> None:
        """Send what waits, for at most `timeout` seconds."""
        if self._sender is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._sender), timeout)

    async def close(self) -> None:
        await self.flush()
        await self._inner.close()

    async def _follow(self, request: Request, answer: Awaitable[Response], identity: str) -> Response:
        response = await answer
        self._log_response(request, response, identity)
        return response

    def _log_request(self, request: Request) -> str:
        identity = request.headers.get("ce-id") or request.id or str(uuid.uuid4())
        if self._mode != "response":
            self._put(_REQUEST, identity, documents.of_request(request))
        return identity

    def _log_response(self, request: Request, response: Response, identity: str) -> None:
        if self._mode != "request":
            document = documents.of_response(response, request.protocol, self._service, request.id)
            self._put(_RESPONSE, identity, document)

    def _put(self, type: str, identity: str, document: dict[str, Any]) -> None:
        data = orjson.dumps(document, default=str)
        if len(self._waiting) >= QUEUED or self._bytes + len(data) > _QUEUED_BYTES:
            self.counts["dropped"] += 1
            return
        extensions: dict[str, str | int | bool] = {
            "inferenceservicename": self._service,
            "namespace": self._project,
            "component": self._component,
            "endpoint": "",
            "recordedtime": datetime.now(UTC).isoformat(),
        }
        if self._metadata:
            extensions["metadata"] = self._metadata
        event = CloudEvent(
            type,
            f"/projects/{self._project}/services/{self._service}",
            data,
            id=identity,
            time=datetime.now(UTC).isoformat(),
            datacontenttype="application/json",
            extensions=extensions,
        )
        self._waiting.append((event, len(data)))
        self._bytes += len(data)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._send(batch)
            finally:
                self._bytes -= sum(size for _, size in batch)

    async def _send(self, batch: list[tuple[CloudEvent, int]]) -> None:
        events = [event for event, _ in batch]
        for attempt in range(_TRIES):
            try:
                events = await self._sink(events)
            except Exception as error:  # the sink's trouble is counted and said, never a client's
                self.error = f"{type(error).__name__}: {error}"[:300]
            if not events:
                break
            await asyncio.sleep(0.1 * 4**attempt)
        self.counts["sent"] += len(batch) - len(events)
        self.counts["failed"] += len(events)


_Sink = Callable[[list[CloudEvent]], Awaitable[list[CloudEvent]]]
"""Takes events, returns those that it could not deliver."""


def _sink(url: str) -> _Sink:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return lambda events: _post(url, events)
    if parts.scheme == "file" and parts.path:
        return lambda events: _append(Path(unquote(parts.path)), events)
    if parts.scheme == "bus":
        return _publish
    raise Invalid(f"A logger's url is http(s)://, file:// or bus://, not '{url}'.", field="logger.url")


async def _post(url: str, events: list[CloudEvent]) -> list[CloudEvent]:
    import httpx2

    failed = []
    async with httpx2.AsyncClient(timeout=10) as client:
        for event in events:
            try:
                answer = await client.post(url, content=event.data, headers=event.headers())
                if answer.status_code >= 300:
                    failed.append(event)
            except httpx2.HTTPError:
                failed.append(event)
    return failed


async def _append(path: Path, events: list[CloudEvent]) -> list[CloudEvent]:
    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b"".join(_line(event) for event in events))

    await asyncio.to_thread(write)
    return []


def _line(event: CloudEvent) -> bytes:
    """Structured mode, one event a line, its JSON data as JSON."""
    document = {**event.attributes(), "data": orjson.Fragment(event.data)}
    return orjson.dumps(document) + b"\n"


async def _publish(events: list[CloudEvent]) -> list[CloudEvent]:
    if bus is None:
        raise Invalid("This server runs beside no bus.", field="logger.url")
    for event in events:
        await bus(event)
    return []
