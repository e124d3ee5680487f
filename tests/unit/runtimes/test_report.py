import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlaas.runtimes.report import Reporter


class Receiver:
    def __init__(self) -> None:
        self.received: list[tuple[float, str, dict]] = []
        self.arrived = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.arrived:
                    outer.received.append((time.monotonic(), self.headers["Authorization"], body["trainerStatus"]))
                    outer.arrived.notify_all()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def wait(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, 10)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver()
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"http://127.0.0.1:{receiver.server.server_port}")
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
    yield receiver
    receiver.server.shutdown()
    receiver.thread.join()
    receiver.server.server_close()


def test_the_first_at_once_and_the_last_always(receiver: Receiver) -> None:
    reporter = Reporter(interval=30)
    reporter.progress(0, 1000, metrics={"loss": 2.5})
    receiver.wait(1)
    for step in range(1, 1001):
        reporter.progress(step, 1000, metrics={"loss": 1 / step})
    reporter.close()
    (_, token, first), (_, _, last) = receiver.received
    assert token == "Bearer secret"
    assert first["progressPercentage"] == 0
    assert {"name": "loss", "value": "2.5"} in first["metrics"]
    assert last["progressPercentage"] == 100
    assert last["estimatedRemainingSeconds"] == 0
    assert {"name": "loss", "value": "0.001"} in last["metrics"]
    assert {"name": "current_step", "value": "1000"} in last["metrics"]
    assert last["lastUpdatedTime"].endswith("+00:00")


def test_reports_keep_their_distance_and_forget_no_metric(receiver: Receiver) -> None:
    reporter = Reporter(interval=0.2)
    reporter.progress(1, 10, metrics={"accuracy": 0.5})
    receiver.wait(1)
    reporter.progress(2, 10, metrics={"loss": 1.0})
    receiver.wait(2)
    reporter.close()
    assert receiver.received[1][0] - receiver.received[0][0] >= 0.15
    names = {metric["name"] for metric in receiver.received[1][2]["metrics"]}
    assert names == {"accuracy", "loss", "current_step", "total_steps"}


def test_a_metric_that_is_not_finite_is_left_out(receiver: Receiver) -> None:
    with Reporter() as reporter:
        reporter.progress(1, 0, metrics={"loss": float("nan")})
    status = receiver.received[0][2]
    assert "progressPercentage" not in status
    assert "loss" not in {metric["name"] for metric in status["metrics"]}


def test_nobody_there_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", "http://127.0.0.1:1")
    started = time.monotonic()
    reporter = Reporter()
    for step in range(100):
        reporter.progress(step, 100)
    reporter.close()
    assert time.monotonic() - started < 3


def test_without_an_address_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL", raising=False)
    before = threading.active_count()
    Reporter().progress(1, 2)
    assert threading.active_count() == before
