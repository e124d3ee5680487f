import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.modelserver.worker.conftest import Serve, ask, told

from mlaas.kernel import cgroup
from mlaas.modelserver.errors import Crashed, NotReady, TimedOut, http_status
from mlaas.modelserver.worker import pool as pools

MOODY = """
def predict(self, inputs):
    import os, time
    value = inputs["x"][0, 0]
    if value == -1:
        os.kill(os.getpid(), 11)
    if value == -2:
        time.sleep(60)
    if value == -3:
        self.eaten = []
        while True:
            self.eaten.append(bytearray(os.urandom(1 << 20)))
    if value == -4:
        print("last words", flush=True)
        os._exit(7)
    if value == -5:
        time.sleep(0.3)
    return inputs["x"]
"""


async def until(condition: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.01)


async def test_a_crash_fails_only_the_request_being_worked_on(serve: Serve) -> None:
    pool = await serve(MOODY)
    other = await serve(MOODY, name="other")
    first = asyncio.ensure_future(pool.infer(ask(-1)))
    waiting = [asyncio.ensure_future(pool.infer(ask(value))) for value in range(1, 6)]
    with pytest.raises(Crashed, match="SIGSEGV") as caught:
        await first
    assert http_status(caught.value) == 503
    assert caught.value.retry_after > 0
    assert [told(answer) for answer in await asyncio.gather(*waiting)] == [[[value]] for value in range(1, 6)]
    assert told(await other.infer(ask(3))) == [[3]]
    assert other.status()["restarts"] == 0
    status = pool.status()
    assert status["restarts"] == 1
    assert "SIGSEGV" in status["last_error"]


async def test_an_exit_is_said_with_its_last_words(serve: Serve) -> None:
    pool = await serve(MOODY)
    with pytest.raises(Crashed, match=r"exit code 7.*last words"):
        await pool.infer(ask(-4))


async def test_a_kill_from_outside_is_said(serve: Serve) -> None:
    pool = await serve(MOODY)
    asked = asyncio.ensure_future(pool.infer(ask(-2)))
    await until(lambda: pool.load()[0] == 1)
    os.kill(pool.status()["workers"][0]["pid"], signal.SIGKILL)
    with pytest.raises(Crashed, match="from outside"):
        await asked


async def test_a_hang_is_timed_out_and_the_worker_replaced(serve: Serve) -> None:
    pool = await serve(MOODY, timeout=0.5)
    before = pool.status()["workers"][0]["pid"]
    since = time.monotonic()
    with pytest.raises(TimedOut, match=r"within 0\.5 s"):
        await pool.infer(ask(-2))
    assert time.monotonic() - since < 2
    await until(lambda: pool.status()["workers"] and pool.status()["workers"][0]["state"] == "ready")
    assert told(await pool.infer(ask(4))) == [[4]]
    assert pool.status()["workers"][0]["pid"] != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


async def test_a_clients_own_deadline_kills_nothing(serve: Serve) -> None:
    pool = await serve(MOODY)
    with pytest.raises(TimedOut, match="before the request's deadline"):
        await pool.infer(ask(-5, deadline=time.monotonic() + 0.1))
    assert told(await pool.infer(ask(4))) == [[4]]
    assert pool.status()["restarts"] == 0


async def test_a_deadline_passes_while_waiting(serve: Serve) -> None:
    pool = await serve(MOODY)
    busy = asyncio.ensure_future(pool.infer(ask(-5)))
    with pytest.raises(TimedOut, match="waited until its deadline"):
        await pool.infer(ask(1, deadline=time.monotonic() + 0.1))
    assert told(await busy) == [[-5]]


@pytest.mark.skipif(cgroup.detect() is None, reason="no control group may be made here")
async def test_an_out_of_memory_kill_is_said_so(serve: Serve) -> None:
    pool = await serve(MOODY, memory=200 << 20)
    with pytest.raises(Crashed, match="more memory than its limit of 200 MiB"):
        await pool.infer(ask(-3))
    assert told(await pool.infer(ask(4))) == [[4]]


async def test_without_control_groups_memory_is_watched(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlaas.modelserver.worker.spawn._found", [None])
    pool = await serve(MOODY, memory=200 << 20)
    with pytest.raises(Crashed, match="more memory than its limit of 200 MiB"):
        await pool.infer(ask(-3))


async def test_a_model_that_keeps_crashing_is_set_aside_and_tried_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_ASIDE", (1.0, 60.0))
    monkeypatch.setattr(pools, "_BACK_OFF", (0.0,) * 5)
    pool = await serve(MOODY)
    changes: list[bool] = []
    pool.changed = lambda: changes.append(bool(pool.aside()))
    for _ in range(pools.CRASHES):
        with pytest.raises(Crashed):
            await pool.infer(ask(-1))
    with pytest.raises(NotReady, match=r"set aside after 5 crashes in a row.*SIGSEGV.*tried again in") as caught:
        await pool.infer(ask(1))
    assert caught.value.retry_after >= 1
    assert pool.status()["set_aside"] > 0
    assert "SIGSEGV" in pool.aside()
    assert changes == [True]
    assert pool.status()["workers"] == []
    await until(lambda: "set_aside" not in pool.status())
    assert pool.aside() == ""
    assert changes == [True, False]
    assert told(await pool.infer(ask(6))) == [[6]]
    for _ in range(pools.CRASHES - 1):
        with pytest.raises(Crashed):
            await pool.infer(ask(-1))
    assert told(await pool.infer(ask(6))) == [[6]]


async def test_one_more_crash_after_that_sets_it_aside_for_longer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_ASIDE", (0.2, 60.0))
    monkeypatch.setattr(pools, "_BACK_OFF", (0.0,) * 5)
    pool = await serve(MOODY)
    for _ in range(pools.CRASHES):
        with pytest.raises(Crashed):
            await pool.infer(ask(-1))
    await until(lambda: pool.status()["workers"])
    with pytest.raises(Crashed):
        await pool.infer(ask(-1))
    with pytest.raises(NotReady, match=r"tried again in (59|60) s"):
        await pool.infer(ask(1))


async def test_what_a_worker_started_ends_with_it(serve: Serve) -> None:
    pool = await serve("""
def predict(self, inputs):
    import subprocess
    child = subprocess.Popen(["sleep", "100"])
    return [[float(child.pid)]]
""")
    pid = int(told(await pool.infer(ask(0)))[0][0])
    await pool.close()
    await until(lambda: not os.path.exists(f"/proc/{pid}") or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")


async def test_resizing_starts_and_drains(serve: Serve) -> None:
    pool = await serve(MOODY)
    pool.resize(3)
    await until(lambda: [worker["state"] for worker in pool.status()["workers"]] == ["ready"] * 3)
    asked = [asyncio.ensure_future(pool.infer(ask(-5))) for _ in range(3)]
    await until(lambda: pool.load()[0] == 3)
    pool.resize(1)
    assert [told(answer) for answer in await asyncio.gather(*asked)] == [[[-5]]] * 3
    assert len(pool.status()["workers"]) == 1
    assert told(await pool.infer(ask(1))) == [[1]]
    assert pool.status()["restarts"] == 0


async def test_logs_are_kept_per_replica_and_bounded(serve: Serve, tmp_path: Path) -> None:
    pool = await serve(
        """
def predict(self, inputs):
    for i in range(int(inputs["x"][0, 0])):
        print("line", i)
    return inputs["x"]
""",
        logs=tmp_path / "logs",
    )
    await pool.infer(ask(5000))
    await until(lambda: pool.logs()[0][-1] == "line 4999")
    assert len(pool.logs()[0]) == 200
    assert (tmp_path / "logs" / "worker-0.log").read_text().splitlines()[0] == "line 0"


async def test_a_worker_gets_no_credentials_and_cannot_read_the_platforms_data(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("HF_TOKEN", "hush")
    (tmp_path / "admin-token").write_text("hush")
    pool = await serve(f"""
inputs = [{{"name": "x", "datatype": "FP32", "shape": [-1, -1]}}]
outputs = [{{"name": "said", "datatype": "BYTES", "shape": [1]}}]

def predict(self, inputs):
    import os
    try:
        return [open({str(tmp_path / "admin-token")!r}).read()]
    except PermissionError:
        return ["refused, " + ("hush" if "hush" in os.environ.values() else "nothing in the environment")]
""")
    assert (await pool.infer(ask(0))).outputs[0].array.tolist() == [b"refused, nothing in the environment"]


FRONT = """
import asyncio, sys
from pathlib import Path
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.worker.start import start

async def main():
    pool = await start(Deployment(revision="m", trusted=True, workers=2), Path(sys.argv[1]))
    while len([w for w in pool.status()["workers"] if w["state"] == "ready"]) < 2:
        await asyncio.sleep(0.01)
    print(*[worker["pid"] for worker in pool.status()["workers"]], flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_front_that_is_killed_leaves_no_worker(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "model.py").write_text("""
class Model:
    inputs = outputs = [{"name": "x", "datatype": "FP32", "shape": [-1]}]

    def predict(self, inputs):
        return inputs["x"]
""")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    front = subprocess.Popen(
        [sys.executable, "-c", FRONT, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert front.stdout is not None
    workers = [int(pid) for pid in front.stdout.readline().split()]
    assert len(workers) == 2
    front.send_signal(number)
    front.wait()
    front.stdout.close()
    end = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < end, "a worker survives its front"
        time.sleep(0.01)
