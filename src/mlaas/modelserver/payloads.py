"""The payload log of one service: what goes in and out of it, as CloudEvents 1.0 to a URL, a file or the bus.

Types, extensions and rules are KServe's logger's (pkg/logger): `org.kubeflow.serving.inference.request|response`, the id is the
request's `Ce-Id` (else its own id, else a new one), responses are logged only when they succeeded. The data is the document that
V1 or V2 carries, also of requests that came as binary tensors or over gRPC. No header of a request is in it.

What waits for the sink is bounded, in number for each service and in bytes for the whole process; what does not fit is dropped
and counted before any work is put into it, so a sink that is slow or dead costs a request nothing.
"""

import asyncio
import time
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from mlaas.kernel.events import CloudEvent
from mlaas.modelserver import documents
from mlaas.modelserver.predictor import Request, Response
from mlaas.modelserver.sinks import Refused, sink, without_credentials
from mlaas.modelserver.table import Logger
from mlaas.modelserver.tensors import Tensor

QUEUED = 1000
"""Events of one service that wait for its sink."""

_BYTES = 64 << 20
_AT_ONCE = 64 << 10  # bytes that are written as JSON on the event loop; more is done in a thread
_TRIES = 5
_AGAIN = 0.1  # seconds before the second try; four times as long before each further one
_BATCH_BYTES = 1 << 20

Kind = Literal["request", "response"]


class Room:
    """Bytes that the waiting events of all services of this process may take."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Whether there is room; it is taken then."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        self.used -= size


_room = Room(_BYTES)


class _Entry(NamedTuple):
    """One event that waits. The tensors are copies: a client's shared memory, say, may change."""

    kind: Kind
    identity: str
    endpoint: str
    recorded: float  # seconds since the epoch
    asked: Request  # of a response without its tensors
    answers: list[Response]
    size: int


class Payloads:
    """Where the wrappers `Logged` of one service put what they see; sends it from tasks of its own."""

    def __init__(self, logger: Logger, project: str, service: str, component: str, room: Room | None = None) -> None:
        self.counts = {"sent": 0, "dropped": 0, "failed": 0}
        self.error = ""
        self._logger = logger
        self._project, self._service, self._component = project, service, component
        self._annotations = orjson.dumps(logger.metadata).decode() if logger.metadata else ""
        self._room = room or _room
        self._sink = sink(logger.url)
        self._waiting: deque[_Entry] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._converting = asyncio.Lock()  # large ones one by one: each holds the interpreter for some milliseconds
        self._closed = False

    @property
    def responses(self) -> bool:
        """Whether responses are logged."""
        return self._logger.mode != "request"

    @property
    def waiting(self) -> int:
        """Events that wait for a sender."""
        return len(self._waiting)

    def status(self) -> dict[str, Any]:
        """`{url, waiting, sent, dropped, failed, error?}`; `error` is the last one that the sink gave."""
        found: dict[str, Any] = {
            "url": without_credentials(self._logger.url),
            "waiting": self.waiting,
            **self.counts,
        }
        return found | {"error": self.error} if self.error else found

    def request(self, request: Request, endpoint: str = "default") -> str:
        """Log a request, where requests are logged; the id that its response is to be logged under."""
        identity = request.headers.get("ce-id") or request.id or str(uuid.uuid4())
        if self._logger.mode != "response":
            self._put("request", identity, endpoint, request, [])
        return identity

    def response(self, request: Request, answers: list[Response], identity: str, endpoint: str = "default") -> None:
        """Log the answer of a request, in pieces where it was streamed, where responses are logged."""
        if self.responses:
            self._put("response", identity, endpoint, request, answers)

    async def flush(self, timeout: float = 5.0) -> None:
        """Send what waits, for at most `timeout` seconds."""
        if self._senders:
            await asyncio.wait(self._senders, timeout=timeout)

    async def close(self, timeout: float = 3.0) -> None:
        """Send what waits for so long; the rest counts as dropped."""
        self._closed = True
        await self.flush(timeout)
        for task in self._senders:
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        while self._waiting:
            self._room.give(self._waiting.popleft().size)
            self.counts["dropped"] += 1
        await self._sink.close()

    def _put(self, kind: Kind, identity: str, endpoint: str, request: Request, answers: list[Response]) -> None:
        tensors = request.inputs if kind == "request" else [each for answer in answers for each in answer.outputs]
        size = 500 + sum(map(_size, tensors))
        if self._closed or len(self._waiting) >= QUEUED or not self._room.take(size):
            self.counts["dropped"] += 1
            return
        asked = Request(
            _copies(request.inputs) if kind == "request" else [],
            None,
            request.id,
            request.parameters,
            protocol=request.protocol,
        )
        self._waiting.append(
            _Entry(kind, identity, endpoint, time.time(), asked, [_copy(answer) for answer in answers], size)
        )
        if len(self._senders) < self._sink.senders:
            task = asyncio.get_running_loop().create_task(self._send())
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)

    async def _send(self) -> None:
        """Send until nothing waits."""
        while self._waiting:
            batch = [self._waiting.popleft()]
            size = batch[0].size
            while self._waiting and len(batch) < self._sink.batch and size + self._waiting[0].size <= _BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += batch[-1].size
            outcome = "dropped"  # where it is cancelled
            try:
                if size > _AT_ONCE:
                    async with self._converting:
                        events = await asyncio.to_thread(self._events, batch)
                else:
                    events = self._events(batch)
                outcome = "sent" if await self._deliver(events) else "failed"
            finally:
                self._room.give(size)
                self.counts[outcome] += len(batch)

    async def _deliver(self, events: list[CloudEvent]) -> bool:
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_AGAIN * 4 ** (attempt - 1))
            try:
                await self._sink.deliver(events)
            except Exception as error:  # the sink's trouble is counted and said, never a client's
                self.error = without_credentials(f"{type(error).__name__}: {error}")[:300]
                if isinstance(error, Refused):
                    return False
            else:
                return True
        return False

    def _events(self, batch: list[_Entry]) -> list[CloudEvent]:
        return [self._event(entry) for entry in batch]

    def _event(self, entry: _Entry) -> CloudEvent:
        stamp = datetime.fromtimestamp(entry.recorded, UTC).isoformat()
        extensions: dict[str, str | int | bool] = {
            "inferenceservicename": self._service,
            "namespace": self._project,
            "component": self._component,
            "endpoint": entry.endpoint,
            "metadata": "{}",  # KServe puts the headers here that it is told to log; none are
            "recordedtime": stamp,
        }
        if self._annotations:
            extensions["annotations"] = self._annotations
        return CloudEvent(
            f"org.kubeflow.serving.inference.{entry.kind}",
            f"/projects/{self._project}/services/{self._service}",
            orjson.dumps(self._document(entry), option=orjson.OPT_SERIALIZE_NUMPY, default=str),
            id=entry.identity,
            time=stamp,
            datacontenttype="application/json",
            extensions=extensions,
        )

    def _document(self, entry: _Entry) -> Any:
        """The request's document, or the response's; of a streamed answer the list of its pieces' documents."""
        asked = entry.asked
        if entry.kind == "request":
            return documents.of_request(asked, arrays=True)
        found = [
            answer.document
            if answer.document is not None
            else documents.of_response(answer, asked.protocol, self._service, asked.id, arrays=True)
            for answer in entry.answers
        ]
        return found[0] if len(found) == 1 else found


def _size(tensor: Tensor) -> int:
    """Bytes that a copy of it takes."""
    if tensor.datatype != "BYTES":
        return int(tensor.array.nbytes)
    return sum(len(item) + 64 for item in tensor.array.reshape(-1))


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [Tensor(each.name, np.array(each.array), each.datatype) for each in tensors]


def _copy(answer: Response) -> Response:
    found = Response(_copies(answer.outputs), answer.parameters, answer.version, answer.model)
    found.document = answer.document
    return found


__all__ = ["QUEUED", "Payloads", "Room"]
