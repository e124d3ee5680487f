"""Progress and metrics, by Kubeflow Trainer's `trainerStatus` protocol (its user guide "TrainJob progress"; Trainer >= 2.2).

A report is `POST $KUBEFLOW_TRAINER_SERVER_URL` with `{"trainerStatus": {lastUpdatedTime, progressPercentage (0 to 100),
estimatedRemainingSeconds, metrics: [{name, value}]}}`, values as text, and the bearer token that the *file*
`$KUBEFLOW_TRAINER_SERVER_TOKEN` holds. Steps go as the metrics `current_step` and `total_steps`, as transformers'
`KubeflowCallback` names them.
"""

import contextlib
import json
import math
import os
import ssl
import threading
import time
import urllib.request
import weakref
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

URL = "KUBEFLOW_TRAINER_SERVER_URL"
TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105
CA_CERT = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
_live: "weakref.WeakSet[Reporter]" = weakref.WeakSet()


class Reporter:
    """Sends reports from a thread of its own: the first at once, then the latest at most every `interval` seconds, the last
    one always (by `close`, which the child calls). Without an address it does nothing. It never raises and never waits.
    """

    def __init__(self, *, interval: float = 1.0) -> None:
        self._interval = interval
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._status: dict[str, Any] | None = None
        self._metrics: dict[str, str] = {}
        self._pace: deque[tuple[float, float]] = deque(maxlen=60)
        self._total = 0.0
        self._closed = False
        self._busy = False
        _live.add(self)

    def progress(
        self,
        done: float,
        total: float,
        unit: str = "steps",
        metrics: dict[str, float] | None = None,
        step: int | None = None,
    ) -> None:
        """`done` of `total` `unit` are done. Metrics stay what they were until they are reported again; `step` is the
        optimiser step they belong to, where `done` is not it. The remaining time follows from the recent pace."""
        if not os.environ.get(URL):
            return
        with self._changed:
            for name, value in (metrics or {}).items():
                if math.isfinite(value):
                    self._metrics[name[:64]] = _text(value)
            self._metrics["current_step"] = _text(done if step is None else step)
            if unit == "steps":
                self._metrics["total_steps"] = _text(total)
            self._status = {"lastUpdatedTime": datetime.now(UTC).isoformat()}
            if total > 0:
                percentage = int(100 * done / total)
                self._status["progressPercentage"] = 100 if done >= total else max(0, min(99, percentage))
            remaining = self._remaining(float(done), float(total))
            if remaining is not None:
                self._status["estimatedRemainingSeconds"] = remaining
            self._status["metrics"] = [
                {"name": name, "value": value} for name, value in list(self._metrics.items())[:256]
            ]
            self._closed = False
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._send_all, name="reports", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, timeout: float = 3.0) -> None:
        """Send what is left, waiting for at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._thread is not None and self._thread.is_alive():
                self._changed.wait_for(lambda: self._status is None and not self._busy, timeout)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remaining(self, done: float, total: float) -> int | None:
        now = time.monotonic()
        if self._pace and (total != self._total or done < self._pace[-1][1]):
            self._pace.clear()
        self._total = total
        if not self._pace or now - self._pace[-1][0] > 0.5:
            self._pace.append((now, done))
        if done >= total > 0:
            return 0
        started, first = self._pace[0]
        if done <= first or now <= started:
            return None
        return min(2**31 - 1, math.ceil((total - done) * (now - started) / (done - first)))

    def _send_all(self) -> None:
        sent = -math.inf
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._status is not None or self._closed)
                self._changed.wait_for(lambda: self._closed, max(0.0, sent + self._interval - time.monotonic()))
                status, self._status = self._status, None
                if status is None:
                    return
                self._busy = True
            sent = time.monotonic()
            with contextlib.suppress(Exception):
                send(status)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if self._closed and self._status is None:
                    return


def send(status: dict[str, Any], timeout: float = 3.0) -> None:
    """Post one status. Raises what urllib raises."""
    url = os.environ[URL]
    token = Path(os.environ[TOKEN]).read_text().strip() if os.environ.get(TOKEN) else ""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps({"trainerStatus": status}).encode(), headers, method="POST")  # noqa: S310
    authority = os.environ.get(CA_CERT)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if authority:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority)))
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as response:
        response.read()


def close_all() -> None:
    """Close every reporter of this process: the last report of each is sent."""
    for reporter in list(_live):
        reporter.close()


def _text(value: Any) -> str:
    number = float(value)
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return repr(number)
