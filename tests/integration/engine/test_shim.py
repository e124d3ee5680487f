"""The shim: how it ends what is below it, what it says of the end, what it keeps."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mlaas.engines.contract import ended, running, until, whole_log, workload
from mlaas.engines.local import process
from mlaas.engines.local.engine import LocalEngine
from mlaas.kernel import cgroup
from mlaas.kernel.errors import Invalid, NotFound
from mlaas.kernel.resource import Resource
from mlaas.kernel.workload import Observed

HOG = "b = bytearray(400 << 20); import time; time.sleep(60)"


def attempt_folder(data: Path, task: Resource, attempt: int = 1) -> Path:
    return data / "work" / task.meta.uid / "r0-0" / f"attempt-{attempt}"


def shim_of(data: Path, task: Resource) -> dict[str, int]:
    identity: dict[str, int] = json.loads((attempt_folder(data, task) / "shim.json").read_text())
    return identity


async def pids_in(engine: LocalEngine, task: Resource, count: int) -> list[int]:
    """The first `count` numbers that the task prints, once it did."""
    end = time.monotonic() + 30
    while len(words := (await whole_log(engine, task.meta.uid)).split()) < count:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    return [int(word) for word in words[:count]]


def dead(pid: int) -> bool:
    fields = process.stat(pid)
    return fields is None or fields[0] in "ZX"


@pytest.mark.parametrize("by_cgroup", [True, False])
async def test_out_of_memory_is_said(data: Path, root: Path, by_cgroup: bool) -> None:
    if by_cgroup and cgroup.detect() is None:
        pytest.skip("no control groups can be made here")
    engine = LocalEngine(data, "here", roots=[root], limit_by_cgroup=by_cgroup)
    await engine.open()
    try:
        task = workload(f"{sys.executable} -c '{HOG}'")
        task.spec["roles"][0]["resources"]["memory"] = 100 << 20
        await engine.ensure(task, 1)
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
    finally:
        await engine.close()
    assert replica.exit is not None
    assert (replica.exit.reason, replica.exit.oom, replica.exit.by_platform) == ("OOMKilled", True, False)
    assert "100 MiB" in replica.exit.message


async def test_everything_below_dies_with_the_command(engine: LocalEngine) -> None:
    task = workload("setsid sleep 601 & echo $!; (trap '' TERM; sleep 602) & echo $!; exit 0")
    await engine.ensure(task, 1)
    (replica,) = (await until(engine, task.meta.uid, ended)).replicas
    assert replica.phase == "Succeeded"
    assert all(dead(pid) for pid in await pids_in(engine, task, 2))


async def test_a_cancel_reaches_all_below(engine: LocalEngine) -> None:
    task = workload(
        "sh -c 'trap \"echo child saved; exit\" TERM; echo $$; while :; do sleep 0.05; done' & echo $$; wait; wait"
    )
    await engine.ensure(task, 1)
    pids = await pids_in(engine, task, 2)
    await engine.stop(task.meta.uid, 20.0, "Cancelled")
    await until(engine, task.meta.uid, ended)
    assert b"child saved" in await whole_log(engine, task.meta.uid)
    assert all(dead(pid) for pid in pids)


@pytest.mark.parametrize("by_cgroup", [True, False])
async def test_a_killed_shim_is_a_lost_attempt(data: Path, root: Path, by_cgroup: bool) -> None:
    engine = LocalEngine(data, "here", roots=[root], limit_by_cgroup=by_cgroup)
    await engine.open()
    try:
        task = workload("setsid sh -c 'echo $$; sleep 601' & sleep 0.1; sleep 602 & echo $!; echo $$; wait")
        await engine.ensure(task, 1)
        pids = await pids_in(engine, task, 3)
        os.kill(shim_of(data, task)["pid"], signal.SIGKILL)
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.phase == "Lost"
        assert replica.exit is not None
        assert (replica.exit.reason, replica.exit.signal, replica.exit.by_platform) == ("Lost", 9, False)
        assert all(dead(pid) for pid in pids)
        assert not (attempt_folder(data, task) / "token").exists()
        task.spec["roles"][0]["command"] = ["echo", "again"]
        await engine.ensure(task, 2)
        again = await until(engine, task.meta.uid, lambda seen: seen.attempt == 2 and ended(seen))
        assert again.replicas[0].phase == "Succeeded"
        assert (await whole_log(engine, task.meta.uid)).endswith(b"again\n")
    finally:
        await engine.close()


async def test_a_killed_shim_is_noticed_by_a_hint(engine: LocalEngine, data: Path) -> None:
    task = workload("sleep 600")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, running)
    hints = engine.hints()
    waiting = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0)
    os.kill(shim_of(data, task)["pid"], signal.SIGKILL)
    assert await asyncio.wait_for(waiting, 10) == task.meta.uid


async def test_lost_replica_ends_its_gang(engine: LocalEngine, data: Path) -> None:
    task = workload("sleep 600", "sleep 600")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, running)
    os.kill(shim_of(data, task)["pid"], signal.SIGKILL)
    first, second = (await until(engine, task.meta.uid, ended)).replicas
    assert first.phase == "Lost"
    assert second.exit is not None
    assert second.exit.by_platform


async def test_attempt_of_an_earlier_boot_is_lost(engine: LocalEngine, data: Path) -> None:
    task = workload("sleep 600")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, running)
    path = attempt_folder(data, task) / "shim.json"
    real = path.read_text()
    await engine.stop(task.meta.uid, 0.0, "Cancelled")
    await until(engine, task.meta.uid, ended)
    (attempt_folder(data, task) / "exit.json").unlink()
    path.write_text(json.dumps({**json.loads(real), "boot": "another"}))
    other = LocalEngine(data, "here")
    (seen,) = await other.observe(task.meta.uid)
    assert seen.replicas[0].phase == "Lost"
    assert seen.replicas[0].exit is not None
    assert "restarted" in seen.replicas[0].exit.message


async def test_stopped_before_it_started_never_starts(engine: LocalEngine, data: Path) -> None:
    """A platform that died between writing the order and starting the shim, and was then told to cancel."""
    task = workload("echo started")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, ended)
    folder = attempt_folder(data, task)
    for name in ("shim.json", "child.json", "exit.json"):
        (folder / name).unlink()
    (folder.parent / "log").unlink()
    other = LocalEngine(data, "here")
    await other.stop(task.meta.uid, 1.0, "Cancelled")
    await other.ensure(task, 1)
    (seen,) = await other.observe(task.meta.uid)
    assert seen.replicas[0].exit is not None
    assert seen.replicas[0].exit.reason == "Cancelled"
    assert await whole_log(other, task.meta.uid) == b""


async def test_rotated_log_is_whole(data: Path, root: Path) -> None:
    engine = LocalEngine(data, "here", roots=[root], log_segment=10_000)
    await engine.open()
    try:
        task = workload("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
        await engine.ensure(task, 1)
        followed = await asyncio.wait_for(whole_log(engine, task.meta.uid, follow=True), 60)
        await until(engine, task.meta.uid, ended)
        expected = b"".join(b"line %d\n" % number for number in range(20_000))
        assert followed == expected
        assert await whole_log(engine, task.meta.uid, offset=123_456) == expected[123_456:]
        assert len(list((data / "work" / task.meta.uid / "r0-0").glob("log*"))) > 2
    finally:
        await engine.close()


def post(url: str, token: str, body: bytes) -> int:
    request = urllib.request.Request(url, data=body, headers={"Authorization": f"Bearer {token}"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def test_reports_are_kept_for_the_platform(engine: LocalEngine, data: Path) -> None:
    task = workload("echo $KUBEFLOW_TRAINER_SERVER_URL $(cat $KUBEFLOW_TRAINER_SERVER_TOKEN); sleep 600")
    await engine.ensure(task, 1)
    end = time.monotonic() + 30
    while len(words := (await whole_log(engine, task.meta.uid)).decode().split()) < 2:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    url, token = words
    status = {"progressPercentage": 40, "estimatedRemainingSeconds": 9, "metrics": [{"name": "loss", "value": "0.5"}]}
    assert await asyncio.to_thread(post, url, token, json.dumps({"trainerStatus": status}).encode()) == 200
    status["metrics"] = [{"name": "loss", "value": "0.25"}]
    assert (
        await asyncio.to_thread(post, url + "/any/path", token, json.dumps({"trainerStatus": status}).encode()) == 200
    )
    assert await asyncio.to_thread(post, url, "wrong", b"{}") == 401
    for bad in (b"", b"{", b"[]", b'{"trainerStatus": 1}', b'{"trainerStatus": {"metrics": [1]}}', b"[" * 100_000):
        assert await asyncio.to_thread(post, url, token, bad) == 400

    def reported(seen: Observed) -> bool:
        return seen.report is not None and seen.report["metrics"] == [{"name": "loss", "value": "0.25"}]

    seen = await until(engine, task.meta.uid, reported)
    assert seen.report is not None
    assert (seen.report["progressPercentage"], seen.report["estimatedRemainingSeconds"]) == (40, 9)
    points, offset = await engine.points(task.meta.uid, 1, 0)
    assert [point["metrics"] for point in points] == [{"loss": "0.5"}, {"loss": "0.25"}]
    assert await engine.points(task.meta.uid, 1, offset) == ([], offset)
    await engine.stop(task.meta.uid, 0.0, "Cancelled")
    await until(engine, task.meta.uid, ended)
    assert not (attempt_folder(data, task) / "token").exists()


async def test_no_control_group_stays(engine: LocalEngine) -> None:
    base = cgroup.detect()
    if base is None:
        pytest.skip("no control groups can be made here")
    task = workload("true")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, ended)
    group = cgroup.group(base, f"mlaas-{task.meta.uid}-1-0")
    assert group is not None
    assert not any(Path(path).exists() for path in group["paths"].values())  # noqa: ASYNC240


async def test_shim_by_exec_is_nobodys_child(data: Path, root: Path) -> None:
    """Without any fork server (the engine was not opened) a shim starts by exec and leaves the platform's children."""
    engine = LocalEngine(data, "here", roots=[root])
    task = workload("sleep 600")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, running)
    assert shim_of(data, task)["pid"] not in process.below(os.getpid())
    await engine.stop(task.meta.uid, 0.0, "Cancelled")
    await until(engine, task.meta.uid, ended)


def test_shim_of_a_claimed_attempt_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "attempt-1").mkdir()
    (tmp_path / "attempt-1" / "start.json").write_text('{"uid": "x", "command": ["touch", "started"]}')
    (tmp_path / "attempt-1" / "shim.json").write_text("{}")
    script = Path(process.__file__).with_name("shim.py")
    subprocess.run([sys.executable, "-I", "-S", script, tmp_path / "attempt-1"], check=True, timeout=30)
    records = sorted(path.name for path in (tmp_path / "attempt-1").iterdir() if path.suffix == ".json")
    assert records == ["shim.json", "start.json"]


async def test_attempt_that_never_got_a_shim_is_started_again(engine: LocalEngine, data: Path) -> None:
    """The platform, or the shim before its claim, died when the attempt had begun: the next look starts it again."""
    task = workload("echo started")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, ended)
    folder = attempt_folder(data, task)
    for name in ("shim.json", "child.json", "exit.json"):
        (folder / name).unlink()
    again = LocalEngine(data, "here")
    await again.open()
    try:
        (replica,) = (await until(again, task.meta.uid, ended)).replicas
        assert replica.phase == "Succeeded"
        assert await whole_log(again, task.meta.uid) == b"started\nstarted\n"
    finally:
        await again.close()


async def test_what_cannot_be_laid_out_has_not_begun(engine: LocalEngine, root: Path) -> None:
    task = workload("cat inputs/late.csv")
    task.spec["roles"][0]["mounts"] = [{"path": "inputs/late.csv", "uri": f"file://{root}/late.csv"}]
    with pytest.raises(Invalid):
        await engine.ensure(task, 1)
    assert await engine.observe(task.meta.uid) == []
    (root / "late.csv").write_text("here\n")
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, ended)
    assert await whole_log(engine, task.meta.uid) == b"here\n"


async def test_a_command_beside_a_replica(engine: LocalEngine, data: Path) -> None:
    task = workload("echo ready > ready; sleep 600", trusted=False)
    await engine.ensure(task, 1)
    await until(engine, task.meta.uid, running)
    uid = task.meta.uid
    check = f'until test -e ready; do sleep 0.01; done; test "$MLAAS_UID" = {uid} && exit 5'
    assert await engine.execute(uid, "r0", 0, ["sh", "-c", check]) == 5
    if LocalEngine.confinement():
        assert await engine.execute(uid, "r0", 0, ["cat", str(data / "admin-token")]) == 1
    assert await engine.execute(uid, "r0", 0, ["no-such-command"]) == 127
    with pytest.raises(NotFound):
        await engine.execute(uid, "r0", 1, ["true"])
