"""Recipes from the warm fork server, and by exec without it."""

import asyncio
import json
import os
import signal
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mlaas.engines.contract import ended, running, until, whole_log
from mlaas.engines.local import process
from mlaas.engines.local.engine import LocalEngine
from mlaas.kernel.resource import Meta, Resource

PRELOAD = ["numpy", "mlaas.runtimes.child", "recipe_of_a_test"]

RECIPE = """
    import os, random, time
    from pathlib import Path


    def main(task):
        import numpy

        print("recipe", task.name, flush=True)
        wait = task.params.get("wait")
        while wait and not os.path.exists(wait):
            time.sleep(0.01)
        reached = {}
        for name, path in task.params.get("read", {}).items():
            try:
                reached[name] = Path(path).read_text()
            except OSError as error:
                reached[name] = type(error).__name__
        return {
            "pid": os.getpid(), "ppid": os.getppid(), "session": os.getsid(0), "random": [random.random(), numpy.random.random()],
            "environment": dict(os.environ), "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))), "reached": reached,
        }
"""

LATE_THREAD = """
    import os, threading, time

    folder = os.path.dirname(__file__)


    def watch():
        while not os.path.exists(f"{folder}/grow"):
            time.sleep(0.01)
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        open(f"{folder}/grown", "w").close()
        time.sleep(600)


    threading.Thread(target=watch, daemon=True).start()
"""


def recipe(uid: str, **params: Any) -> Resource:
    """A workload that runs the test's recipe."""
    task = {"uid": uid, "name": uid, "project": "default", "attempt": 1, "recipe": "test", "params": params}
    role = {"recipe": "recipe_of_a_test", "task_file": task, "resources": {"cpu": 0.5, "memory": 1 << 30}}
    return Resource("workload", Meta(uid, "default", uid), {"roles": [role]})


async def result(engine: LocalEngine, task: Resource) -> dict[str, Any]:
    """What the recipe returned."""
    await engine.ensure(task, 1)
    (replica,) = (await until(engine, task.meta.uid, ended)).replicas
    assert replica.phase == "Succeeded", await whole_log(engine, task.meta.uid, "main")
    collected = (await engine.collect(task.meta.uid, 1)).result
    assert collected is not None
    returned: dict[str, Any] = collected["result"]
    return returned


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for(path: Path) -> None:
    wait_until(path.exists)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "recipe_of_a_test.py").write_text(textwrap.dedent(RECIPE))
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return folder


@pytest.fixture
async def warm(data: Path, root: Path, modules: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(data, "here", roots=[root], preload=PRELOAD)
    await engine.open()
    assert await engine.wait_warm(60)
    yield engine
    for seen in await engine.observe():
        if not ended(seen):
            await engine.stop(seen.uid, 0.0, "Cancelled")
            await until(engine, seen.uid, ended)
    await engine.close()


async def test_forked_recipe(warm: LocalEngine, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "s3cret")
    one, two = await result(warm, recipe("one")), await result(warm, recipe("two"))
    shim = json.loads((data / "work" / "one" / "main-0" / "attempt-1" / "shim.json").read_text())
    assert one["ppid"] == one["session"] == shim["pid"]
    assert not {*one["random"]} & {*two["random"]}
    assert one["environment"]["MLAAS_UID"] == "one"
    assert "MY_PASSWORD" not in one["environment"]
    assert one["descriptors"][:3] == [0, 1, 2]
    assert len(one["descriptors"]) == 6  # the pipe that SIGTERM is announced on, and what reads the list itself
    assert await whole_log(warm, "one", "main") == b"recipe one\n"
    server = warm.warm_pid
    assert warm.warm == "ready"
    assert shim["pid"] != two["session"]
    orders = [json.loads((data / f"work/{uid}/main-0/attempt-1/start.json").read_text()) for uid in ("one", "two")]
    assert [order["message"] for order in orders] == ["", ""]
    assert warm.warm_pid == server is not None


async def test_trusted_recipe_reaches_blobs_and_cache_only(
    warm: LocalEngine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "cache" / "tokens").write_text("tokens")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    read = {"token": data / "admin-token", "blob": data / "blobs" / "blob", "cache": data / "cache" / "tokens"}
    returned = await result(warm, recipe("reader", read={name: str(path) for name, path in read.items()}))
    assert returned["reached"]["blob"] == "content"
    assert returned["reached"]["cache"] == "tokens"
    if LocalEngine.confinement():
        assert returned["reached"]["token"] == "PermissionError"
    assert returned["environment"]["AWS_SECRET_ACCESS_KEY"] == "s3cret"  # by the credentials file
    assert returned["environment"]["HF_TOKEN"] == "hf_s3cret"
    attempt = data / "work" / "reader" / "main-0" / "attempt-1"
    assert "s3cret" not in (attempt / "start.json").read_text()
    assert not (attempt / "credentials.json").exists()


async def test_killed_fork_server_harms_nothing(warm: LocalEngine, root: Path) -> None:
    tasks = [recipe(f"t{number}", wait=str(root / "go")) for number in range(3)]
    for task in tasks:
        await warm.ensure(task, 1)
        await until(warm, task.meta.uid, running)
    server = warm.warm_pid
    assert server is not None
    os.kill(server, signal.SIGKILL)
    late = recipe("late", wait=str(root / "go"))
    await warm.ensure(late, 1)
    await until(warm, "late", running)
    (root / "go").touch()
    for task in [*tasks, late]:
        (replica,) = (await until(warm, task.meta.uid, ended)).replicas
        assert replica.phase == "Succeeded", await whole_log(warm, task.meta.uid, "main")
    assert await warm.wait_warm(60)
    assert warm.warm_pid != server
    assert (await result(warm, recipe("after")))["pid"]


async def test_grown_threads_restart_it(data: Path, root: Path, modules: Path) -> None:
    """A server in which a thread was started after the imports must not fork any more. Its spare was forked before."""
    (modules / "late_thread.py").write_text(textwrap.dedent(LATE_THREAD))
    engine = LocalEngine(data, "here", roots=[root], preload=[*PRELOAD, "late_thread"])
    await engine.open()
    try:
        assert await engine.wait_warm(60)
        server = engine.warm_pid
        assert server is not None
        who = process.identity(server)
        (modules / "grow").touch()
        await asyncio.to_thread(wait_for, modules / "grown")
        assert (await result(engine, recipe("one")))["pid"]
        await asyncio.to_thread(wait_until, lambda: not process.alive(who))
        assert (await result(engine, recipe("two")))["pid"]
        assert await engine.wait_warm(60)
        assert engine.warm_pid != server
    finally:
        await engine.close()


async def test_exec_without_a_fork_server(modules: Path, engine: LocalEngine) -> None:
    returned = await result(engine, recipe("cold"))
    assert returned["environment"]["MLAAS_UID"] == "cold"


async def test_exec_says_why(data: Path, root: Path, modules: Path) -> None:
    engine = LocalEngine(data, "here", roots=[root], preload=PRELOAD)
    task = recipe("early", wait=str(root / "go"))
    await engine.ensure(task, 1)
    seen = await until(engine, "early", running)
    assert "not ready (starting)" in seen.replicas[0].message
    (root / "go").touch()
    await until(engine, "early", ended)


async def test_own_environment_needs_exec(warm: LocalEngine) -> None:
    task = recipe("own")
    task.spec["roles"][0]["env"] = {"MKL_NUM_THREADS": "1"}
    assert (await result(warm, task))["environment"]["MKL_NUM_THREADS"] == "1"


async def test_missing_module_is_no_obstacle(data: Path, root: Path, modules: Path) -> None:
    engine = LocalEngine(data, "here", roots=[root], preload=[*PRELOAD, "a_framework_that_is_not_installed"])
    await engine.open()
    try:
        assert await engine.wait_warm(60)
        assert (await result(engine, recipe("one")))["pid"]
    finally:
        await engine.close()
