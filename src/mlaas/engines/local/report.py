"""The report endpoint of one replica: Kubeflow Trainer's `trainerStatus` over HTTP on loopback, served by its shim.

`POST` (any path) with `Authorization: Bearer TOKEN` and `{"trainerStatus": {"progressPercentage", "estimatedRemainingSeconds",
"metrics": [{"name", "value"}], "lastUpdatedTime"}}` is answered 200 `{}` (Kubeflow Trainer, user guide "TrainJob progress").
The latest report is kept in `report.json`, all metrics in `points.jsonl`, so nothing needs the platform to listen.
Standard library only; nothing here blocks: the shim's one thread serves it between its other duties.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from mlaas.engines.local import record

BODY = 1 << 20
_CONNECTIONS = 32
_IDLE = 10.0  # seconds a connection may stay silent
_POINTS = 64 << 20  # bytes of metrics kept per attempt; later ones still show as the latest
_WRITE_EVERY = 0.2  # seconds between writes of report.json


class Endpoint:
    """`fresh()` is called when a report was written. The owner polls `descriptors()`, calls `serve` for those that are
    readable, and `tick` when `deadline()` (monotonic) has come."""

    def __init__(self, folder: str, token: str, fresh: Callable[[], None]) -> None:
        self._folder, self._token, self._fresh = folder, token, fresh
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: dict[int, tuple[socket.socket, bytearray, float]] = {}
        self._points = os.open(
            f"{folder}/{record.POINTS}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._kept = os.fstat(self._points).st_size
        self._pending: dict[str, Any] | None = None
        self._written = 0.0

    def descriptors(self) -> list[int]:
        return [self._listener.fileno(), *self._open]

    def deadline(self) -> float | None:
        times = [last + _IDLE for _, _, last in self._open.values()]
        if self._pending is not None:
            times.append(self._written + _WRITE_EVERY)
        return min(times, default=None)

    def tick(self) -> None:
        moment = time.monotonic()
        for number, (_, _, last) in list(self._open.items()):
            if moment >= last + _IDLE:
                self._close(number)
        if self._pending is not None and moment >= self._written + _WRITE_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the latest report now."""
        if self._pending is None:
            return
        self._written = time.monotonic()
        report, self._pending = self._pending, None
        try:
            record.write(f"{self._folder}/{record.REPORT}", report)
        except OSError:
            return  # a full disk costs progress, never the task
        self._fresh()

    def serve(self, number: int) -> None:
        if number == self._listener.fileno():
            self._accept()
        elif number in self._open:
            self._receive(number)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._open) >= _CONNECTIONS:
            self._close(min(self._open.items(), key=lambda item: item[1][2])[0])
        connection.setblocking(False)
        self._open[connection.fileno()] = (connection, bytearray(), time.monotonic())

    def _receive(self, number: int) -> None:
        connection, buffer, _ = self._open[number]
        try:
            chunk = connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        buffer += chunk
        self._open[number] = (connection, buffer, time.monotonic())
        answer = self._answer(buffer) if chunk else b""
        if answer is None:
            return
        if answer:
            try:
                connection.send(answer)
            except OSError:
                pass
        self._close(number)

    def _close(self, number: int) -> None:
        self._open.pop(number)[0].close()

    def _answer(self, buffer: bytearray) -> bytes | None:
        """The response, once the request is whole; None until then."""
        head, found, rest = bytes(buffer).partition(b"\r\n\r\n")
        if not found:
            return _response(431, "The headers are too long.") if len(buffer) > 1 << 16 else None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _equal(token.strip(), self._token):
            return _response(401, "The bearer token is missing or not that of this task.")
        if not first.startswith("POST "):
            return _response(405, "Reports are posted.")
        length = headers.get("content-length", "")
        if not length.isdigit():
            return _response(411, "Content-Length is missing.")
        if int(length) > BODY:
            return _response(413, f"A report has at most {BODY} bytes.")
        if len(rest) < int(length):
            return None
        return self._take(rest[: int(length)])

    def _take(self, body: bytes) -> bytes:
        try:
            status = json.loads(body)["trainerStatus"]
            report = _checked(status)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return _response(400, f"Not a trainerStatus document: {error}")
        self._pending = report
        self._keep(report)
        if time.monotonic() >= self._written + _WRITE_EVERY:
            self.flush()
        return _response(200, None)

    def _keep(self, report: dict[str, Any]) -> None:
        if not report["metrics"] or self._kept > _POINTS:
            return
        line = json.dumps(
            {"time": report["lastUpdatedTime"], "metrics": {m["name"]: m["value"] for m in report["metrics"]}}
        )
        try:
            self._kept += os.write(self._points, line.encode() + b"\n")
        except OSError:
            return


def _checked(status: Any) -> dict[str, Any]:
    """The fields of a report that are ours to keep. Raises TypeError, KeyError or ValueError."""
    if not isinstance(status, dict):
        raise TypeError("trainerStatus is no object")
    report: dict[str, Any] = {"lastUpdatedTime": record.now()}
    for name in ("progressPercentage", "estimatedRemainingSeconds"):
        if status.get(name) is not None:
            report[name] = max(0, int(status[name]))
    if "progressPercentage" in report:
        report["progressPercentage"] = min(100, report["progressPercentage"])
    if isinstance(status.get("message"), str):
        report["message"] = status["message"][:1000]
    pairs = map(itemgetter("name", "value"), (status.get("metrics") or [])[:1000])
    report["metrics"] = [{"name": str(name)[:256], "value": str(value)[:256]} for name, value in pairs]
    return report


def _equal(left: str, right: str) -> bool:
    """Comparison in time that does not depend on where they differ."""
    a, b = left.encode(), right.encode()
    different = len(a) ^ len(b)
    for x, y in zip(a, b, strict=False):
        different |= x ^ y
    return not different


_REASON = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 405: "Method Not Allowed", 411: "Length Required"}


def _response(status: int, detail: str | None) -> bytes:
    body = json.dumps({"detail": detail} if detail else {}).encode()
    return (
        f"HTTP/1.1 {status} {_REASON.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
