"""What every engine must do, as tests. A subclass gives `engine`, `source` and `populate`, and passes against the real thing.

    class TestLocal(EngineContract):
        @pytest.fixture
        async def engine(self, tmp_path): ...

Commands are run by `sh`, which every engine's place of execution must have.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pytest

from mlaas.kernel.engine import CanTidy, Engine
from mlaas.kernel.errors import Invalid, NotFound, Unavailable
from mlaas.kernel.resource import Meta, Resource
from mlaas.kernel.workload import Observed

PATIENCE = 60.0
"""Seconds to wait for what must come; only failures take that long."""


def workload(*commands: str, uid: str = "", **spec: Any) -> Resource:
    """A workload with one replica per shell command; several make a gang."""
    uid = uid or uuid.uuid4().hex
    roles = [
        {"name": f"r{number}", "command": ["sh", "-c", command], "resources": {"cpu": 0.05, "memory": 128 << 20}}
        for number, command in enumerate(commands)
    ]
    return Resource("workload", Meta(f"w-{uid[:8]}", "default", uid), {"roles": roles, "grace": 5.0, **spec})


def ended(observed: Observed) -> bool:
    return all(replica.exit is not None for replica in observed.replicas)


def running(observed: Observed) -> bool:
    return all(replica.phase == "Running" for replica in observed.replicas)


async def until(engine: Engine, uid: str, condition: Callable[[Observed], bool]) -> Observed:
    """The observation of `uid` once `condition` holds."""
    end = time.monotonic() + PATIENCE
    seen: list[Observed] = []
    while time.monotonic() < end:
        seen = await engine.observe(uid)
        if seen and condition(seen[0]):
            return seen[0]
        await asyncio.sleep(0.01)
    raise AssertionError(f"Did not come within {PATIENCE:.0f} s; seen last: {seen}")


async def whole_log(engine: Engine, uid: str, role: str = "r0", *, offset: int = 0, follow: bool = False) -> bytes:
    return b"".join([part async for part in engine.logs(uid, role, 0, offset, follow)])


class EngineContract(ABC):
    """Tests of an engine's behaviour that its users rely on."""

    @pytest.fixture
    @abstractmethod
    async def engine(self) -> Engine:
        """An open engine, closed afterwards with nothing left running."""

    @abstractmethod
    def source(self, engine: Engine) -> str:
        """Python source that binds `engine` to another (not yet open) engine over the same place."""

    @abstractmethod
    async def populate(self, engine: Engine, count: int) -> None:
        """Have `count` ended workloads there."""

    def reopened(self, engine: Engine) -> Engine:
        """A second engine over the same place, as after a restart of the platform."""
        names: dict[str, Any] = {}
        exec(self.source(engine), names)  # noqa: S102
        again: Engine = names["engine"]
        return again

    async def test_runs_to_success(self, engine: Engine) -> None:
        task = workload("echo out; echo err >&2")
        await engine.ensure(task, 1)
        observed = await until(engine, task.meta.uid, ended)
        (replica,) = observed.replicas
        assert (observed.attempt, replica.phase) == (1, "Succeeded")
        assert replica.exit is not None
        assert (replica.exit.code, replica.exit.signal, replica.exit.reason) == (0, None, "Completed")
        assert replica.exit.started <= replica.exit.ended
        assert sorted((await whole_log(engine, task.meta.uid)).split()) == [b"err", b"out"]

    async def test_failure_has_its_code_in_words(self, engine: Engine) -> None:
        task = workload("exit 7")
        await engine.ensure(task, 1)
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.phase == "Failed"
        assert replica.exit is not None
        assert (replica.exit.code, replica.exit.reason, replica.exit.by_platform) == (7, "Error", False)
        assert "7" in replica.exit.message

    async def test_foreign_signal_is_told_from_a_cancel(self, engine: Engine) -> None:
        task = workload("kill -9 $$")
        await engine.ensure(task, 1)
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.exit is not None
        assert (replica.exit.signal, replica.exit.reason, replica.exit.by_platform) == (9, "Signal", False)
        assert "SIGKILL" in replica.exit.message

    async def test_missing_command(self, engine: Engine) -> None:
        task = workload("")
        task.spec["roles"][0]["command"] = ["no-such-program-anywhere"]
        await engine.ensure(task, 1)
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.exit is not None
        assert replica.exit.reason == "StartError"
        assert "no-such-program-anywhere" in replica.exit.message

    async def test_ensure_is_idempotent(self, engine: Engine) -> None:
        task = workload("echo once; sleep 0.2")
        await asyncio.gather(*(engine.ensure(task, 1) for _ in range(5)))
        await engine.ensure(task, 1)
        await until(engine, task.meta.uid, ended)
        await engine.ensure(task, 1)
        assert await whole_log(engine, task.meta.uid) == b"once\n"

    async def test_two_platforms_start_it_once(self, engine: Engine) -> None:
        other = self.reopened(engine)
        tasks = [workload("echo once") for _ in range(10)]
        await asyncio.gather(*(one.ensure(task, 1) for task in tasks for one in (engine, other)))
        for task in tasks:
            await until(engine, task.meta.uid, ended)
            assert await whole_log(engine, task.meta.uid) == b"once\n"

    async def test_gang_starts_as_one(self, engine: Engine) -> None:
        show = 'echo "$RANK/$WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $PET_NODE_RANK"'
        task = workload(show, show)
        task.spec["roles"][1]["replicas"] = 2
        await engine.ensure(task, 1)
        observed = await until(engine, task.meta.uid, ended)
        assert [(replica.role, replica.index) for replica in observed.replicas] == [("r0", 0), ("r1", 0), ("r1", 1)]
        lines = [await whole_log(engine, task.meta.uid, role) for role in ("r0", "r1")]
        lines.append(b"".join([part async for part in engine.logs(task.meta.uid, "r1", 1, 0, False)]))
        words = [line.decode().split() for line in lines]
        assert [word[0] for word in words] == ["0/3", "1/3", "2/3"]
        assert len({word[1] for word in words}) == 1
        assert [word[2] for word in words] == ["0", "1", "2"]

    async def test_one_failure_ends_the_gang(self, engine: Engine) -> None:
        task = workload("sleep 600", "exit 4")
        await engine.ensure(task, 1)
        first, second = (await until(engine, task.meta.uid, ended)).replicas
        assert first.exit is not None
        assert second.exit is not None
        assert (second.exit.code, second.exit.reason) == (4, "Error")
        assert first.exit.by_platform
        assert "r1-0" in first.exit.message

    async def test_log_is_followed_to_the_end(self, engine: Engine) -> None:
        task = workload("for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done")
        await engine.ensure(task, 1)
        followed = await asyncio.wait_for(whole_log(engine, task.meta.uid, follow=True), PATIENCE)
        assert followed == b"".join(b"line %d\n" % number for number in range(1, 6))
        assert await whole_log(engine, task.meta.uid, offset=7) == followed[7:]
        assert await whole_log(engine, task.meta.uid, offset=len(followed)) == b""

    async def test_log_keeps_bytes_as_written(self, engine: Engine) -> None:
        task = workload(r"printf 'a\r\n\000\377\033[1mb'")
        await engine.ensure(task, 1)
        await until(engine, task.meta.uid, ended)
        assert await whole_log(engine, task.meta.uid) == b"a\r\n\x00\xff\x1b[1mb"

    async def test_log_of_nobody(self, engine: Engine) -> None:
        with pytest.raises(NotFound):
            await whole_log(engine, uuid.uuid4().hex)

    async def test_cancel_gives_time_to_end(self, engine: Engine) -> None:
        task = workload("trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
        await engine.ensure(task, 1)
        await self._written(engine, task.meta.uid, b"ready\n")
        await engine.stop(task.meta.uid, 30.0, "Cancelled")
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.exit is not None
        assert (replica.exit.reason, replica.exit.by_platform) == ("Cancelled", True)
        assert b"saved" in await whole_log(engine, task.meta.uid)

    async def test_cancel_kills_what_does_not_end(self, engine: Engine) -> None:
        task = workload("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        await engine.ensure(task, 1)
        await self._written(engine, task.meta.uid, b"ready\n")
        await engine.stop(task.meta.uid, 0.2, "Cancelled")
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.exit is not None
        assert (replica.exit.signal, replica.exit.reason, replica.exit.by_platform) == (9, "Cancelled", True)

    async def test_stop_is_idempotent(self, engine: Engine) -> None:
        await engine.stop(uuid.uuid4().hex, 1.0, "Cancelled")
        task = workload("sleep 600")
        await engine.ensure(task, 1)
        for _ in range(3):
            await engine.stop(task.meta.uid, 5.0, "Cancelled")
        before = await until(engine, task.meta.uid, ended)
        await engine.stop(task.meta.uid, 5.0, "Cancelled")
        assert await engine.observe(task.meta.uid) == [before]
        assert before.replicas[0].exit is not None
        assert before.replicas[0].exit.by_platform

    async def test_time_limit(self, engine: Engine) -> None:
        task = workload("sleep 600", time_limit=0.3)
        await engine.ensure(task, 1)
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.exit is not None
        assert (replica.exit.reason, replica.exit.by_platform) == ("TimeLimit", True)
        assert "0.3" in replica.exit.message

    async def test_attempts_follow_one_another(self, engine: Engine) -> None:
        task = workload("echo attempt; test -e checkpoint && exit 0; touch checkpoint; exit 3")
        await engine.ensure(task, 1)
        first = await until(engine, task.meta.uid, ended)
        assert first.replicas[0].phase == "Failed"
        await engine.ensure(task, 2)
        second = await until(engine, task.meta.uid, lambda seen: seen.attempt == 2 and ended(seen))
        assert second.replicas[0].phase == "Succeeded"
        assert second.replicas[0].exit is not None
        assert second.replicas[0].exit.attempt == 2
        await engine.ensure(task, 1)
        assert (await engine.observe(task.meta.uid)) == [second]
        assert await whole_log(engine, task.meta.uid) == b"attempt\nattempt\n"

    async def test_no_attempt_beside_another(self, engine: Engine) -> None:
        task = workload("sleep 600")
        await engine.ensure(task, 1)
        with pytest.raises(Unavailable):
            await engine.ensure(task, 2)
        assert [seen.attempt for seen in await engine.observe(task.meta.uid)] == [1]
        await engine.stop(task.meta.uid, 0.0, "Cancelled")
        await until(engine, task.meta.uid, ended)

    async def test_too_large_is_refused(self, engine: Engine) -> None:
        task = workload("true")
        task.spec["roles"][0]["resources"]["cpu"] = (await engine.capacity()).cpu + 1
        with pytest.raises(Invalid) as caught:
            await engine.ensure(task, 1)
        assert caught.value.field == "resources.cpu"
        assert await engine.observe(task.meta.uid) == []

    async def test_adopted_by_a_new_engine(self, engine: Engine) -> None:
        task = workload("echo before; until test -e go; do sleep 0.02; done; echo after")
        await engine.ensure(task, 1)
        await self._written(engine, task.meta.uid, b"before\n")
        other = self.reopened(engine)
        assert [seen.uid for seen in await other.observe() if running(seen)] == [task.meta.uid]
        await other.ensure(task, 1)
        await other.stop(task.meta.uid, 1.0, "Cancelled")
        (replica,) = (await until(other, task.meta.uid, ended)).replicas
        assert replica.exit is not None
        assert replica.exit.reason == "Cancelled"
        assert await whole_log(other, task.meta.uid) == b"before\n"

    async def test_work_outlives_a_killed_platform(self, engine: Engine) -> None:
        task = workload("echo before; sleep 1; echo after")
        holder = f"""
import asyncio, json, sys
from mlaas.kernel.resource import Resource
{self.source(engine)}
async def main():
    await engine.open()
    await engine.ensure(Resource.from_json(json.loads(sys.argv[1])), 1)
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
        import json

        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", holder, json.dumps(task.to_json())], stdout=subprocess.PIPE, env=os.environ.copy()
        )
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"started\n"
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        (replica,) = (await until(engine, task.meta.uid, ended)).replicas
        assert replica.phase == "Succeeded"
        assert await whole_log(engine, task.meta.uid) == b"before\nafter\n"

    async def test_hint_comes_at_the_end(self, engine: Engine) -> None:
        task = workload("sleep 0.2")
        hints = engine.hints()

        async def end() -> None:
            async for uid in hints:
                if uid == task.meta.uid and ended((await engine.observe(uid))[0]):
                    return

        waiting = asyncio.create_task(end())
        await asyncio.sleep(0)
        await engine.ensure(task, 1)
        await asyncio.wait_for(waiting, PATIENCE)

    async def test_removed_is_forgotten(self, engine: Engine) -> None:
        if not isinstance(engine, CanTidy):
            pytest.skip("this engine keeps no files")
        task = workload("echo kept; mkdir -p checkpoints output; echo 1 > checkpoints/1; echo 2 > output/2")
        await engine.ensure(task, 1)
        await until(engine, task.meta.uid, ended)
        assert (await engine.collect(task.meta.uid, 1)).output is not None
        await engine.tidy(task.meta.uid, keep_checkpoints=False)
        assert await whole_log(engine, task.meta.uid) == b"kept\n"
        assert (await engine.collect(task.meta.uid, 1)).output is None
        assert ended((await engine.observe(task.meta.uid))[0])
        await engine.remove(task.meta.uid)
        await engine.remove(task.meta.uid)
        assert await engine.observe(task.meta.uid) == []
        assert task.meta.uid not in [seen.uid for seen in await engine.observe()]
        with pytest.raises(NotFound):
            await whole_log(engine, task.meta.uid)

    async def test_a_thousand_are_listed(self, engine: Engine) -> None:
        await self.populate(engine, 1000)
        seen = await engine.observe()
        assert len(seen) == 1000
        assert all(ended(one) for one in seen)
        began = time.perf_counter()
        assert len(await engine.observe()) == 1000
        assert time.perf_counter() - began < 0.5

    @staticmethod
    async def _written(engine: Engine, uid: str, content: bytes) -> None:
        await until(engine, uid, running)
        end = time.monotonic() + PATIENCE
        while content not in await whole_log(engine, uid):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
