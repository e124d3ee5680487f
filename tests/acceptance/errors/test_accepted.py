"""What was accepted is not lost, whenever the platform dies or stands still."""

import contextlib
import os
import signal
import threading

import httpx2
import pytest
from tests.platform import Platform

from .conftest import Asked

pytestmark = pytest.mark.slow


@pytest.fixture
def platform(tmp_path):
    with Platform(tmp_path, MLAAS_WARM="0") as running:
        yield running


def body(name):
    return {"name": name, "script": {"command": ["sh", "-c", "echo done"]}, "resources": {"cpu": 0.05}}


def test_a_kill_right_after_each_answer(platform):
    names = [f"task{i}" for i in range(5)]
    for name in names:
        with contextlib.closing(Asked(platform)) as asked:
            assert asked.request("POST", "/api/v1/tasks", json=body(name)).status_code == 201
        platform.kill()
        platform.start()
    _all_succeed(platform, names)


def test_a_kill_amid_many_requests(platform):
    """Every task whose 201 arrived is there after the kill; none is there twice."""
    accepted = []

    def send(part):
        with contextlib.closing(Asked(platform)) as asked:
            for i in range(1000):
                try:
                    answer = asked.http.post("/api/v1/tasks", json=body(f"t{part}-{i}"))
                except httpx2.TransportError:
                    return
                if answer.status_code == 201:
                    accepted.append(f"t{part}-{i}")
                if len(accepted) > 20:
                    full.set()

    full = threading.Event()
    threads = [threading.Thread(target=send, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    assert full.wait(60)
    platform.kill()
    for thread in threads:
        thread.join()
    platform.start()
    _all_succeed(platform, accepted)


def test_a_platform_that_stands_still(platform):
    with contextlib.closing(Asked(platform)) as asked:
        assert asked.request("POST", "/api/v1/tasks", json=body("before")).status_code == 201
        os.kill(platform.pid, signal.SIGSTOP)
        with pytest.raises(httpx2.TimeoutException):
            asked.http.get("/readyz", timeout=0.5)
        os.kill(platform.pid, signal.SIGCONT)
        assert asked.request("POST", "/api/v1/tasks", json=body("after")).status_code == 201
        os.kill(platform.pid, signal.SIGSTOP)
    platform.kill()
    platform.start()
    _all_succeed(platform, ["before", "after"])


def _all_succeed(platform, names):
    with contextlib.closing(Asked(platform)) as asked:
        for name in names:
            found = asked.request("GET", f"/api/v1/projects/default/tasks/{name}")
            assert found.status_code == 200, name
            uid = found.json()["meta"]["uid"]
            answer = asked.request("GET", f"/api/v1/tasks/{uid}", headers={"Prefer": "wait=60"}).json()
            assert answer["task_status"] == "succeeded", answer
            assert asked.request("GET", f"/api/v1/projects/default/tasks/{name}/logs").text == "done\n"
