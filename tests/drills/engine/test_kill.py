"""Kill -9 of whatever takes part, at random moments: every task ends in success, once, with a whole log."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlaas.engines.contract import ended, workload
from mlaas.engines.local import process
from mlaas.engines.local.engine import LocalEngine
from mlaas.kernel.resource import Resource

TASKS, KILLS = 10, 40
LINES = 40

PLATFORM = """
import asyncio, json, sys
from pathlib import Path
from mlaas.engines.local.engine import LocalEngine
from mlaas.kernel.errors import Unavailable
from mlaas.kernel.resource import Resource

tasks = [Resource.from_json(document) for document in json.loads(Path(sys.argv[2]).read_text())]

async def main():
    engine = LocalEngine(Path(sys.argv[1]), "here", roots=[Path(sys.argv[3])])
    await engine.open()
    while True:
        for task in tasks:
            seen = await engine.observe(task.meta.uid)
            attempt = 1
            if seen:
                exits = [replica.exit for replica in seen[0].replicas]
                if not all(exits) or exits[0].reason == "Completed":
                    continue
                attempt = seen[0].attempt + 1
            try:
                await engine.ensure(task, attempt)
            except Unavailable:
                pass
        await asyncio.sleep(0.02)

asyncio.run(main())
"""


def victims(data: Path, platform: subprocess.Popen[bytes]) -> dict[str, list[int]]:
    """Living processes by what they are."""
    found: dict[str, list[int]] = {"platform": [platform.pid], "server": [], "shim": [], "child": []}
    found["server"] = [pid for pid in process.below(platform.pid) if b"forkserver" in _command(pid)]
    for path in data.glob("work/*/r0-0/attempt-*"):
        if not (path / "exit.json").exists():
            for name in ("shim", "child"):
                who = process_of(path / f"{name}.json")
                if who and process.alive(who):
                    found[name].append(int(who["pid"]))
    return {name: pids for name, pids in found.items() if pids}


def process_of(path: Path) -> dict[str, int] | None:
    from mlaas.engines.local import record

    return record.read(str(path))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_nothing_is_lost(tmp_path: Path) -> None:
    import json

    data, root = tmp_path / "data", tmp_path / "root"
    root.mkdir()
    command = (
        f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo done >> {root}/$MLAAS_UID"
    )
    tasks: list[Resource] = [workload(command, uid=f"t{number}", trusted=False) for number in range(TASKS)]
    (tmp_path / "tasks.json").write_text(json.dumps([task.to_json() for task in tasks]))
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", PLATFORM, data, tmp_path / "tasks.json", root], env=os.environ.copy()
        )

    engine = LocalEngine(data, "here")
    platform = await asyncio.to_thread(start)
    killed: dict[str, int] = {}
    try:
        while sum(killed.values()) < KILLS:
            await asyncio.sleep(chance.uniform(0.02, 0.25))
            kinds = await asyncio.to_thread(victims, data, platform)
            kind = chance.choice(["platform", "server", "shim", "child"])
            if kind not in kinds or (kind == "platform" and chance.random() < 0.5):
                continue
            pid = chance.choice(kinds[kind])
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed[kind] = killed.get(kind, 0) + 1
            if kind == "platform":
                await asyncio.to_thread(platform.wait)
                platform = await asyncio.to_thread(start)
        end = time.monotonic() + 200
        while True:
            seen = await engine.observe()
            if len(seen) == TASKS and all(ended(one) and one.replicas[0].phase == "Succeeded" for one in seen):
                break
            assert time.monotonic() < end, f"{killed}, {seen}"
            await asyncio.sleep(0.1)
    finally:
        platform.kill()
        await asyncio.to_thread(platform.wait)
    print("killed", killed)
    for task in tasks:
        uid = task.meta.uid
        assert (root / uid).read_text() == "done\n"
        log = b"".join([part async for part in engine.logs(uid, "r0", 0, 0, False)]).decode()
        assert log.endswith("".join(f"line {number}\n" for number in range(1, LINES + 1)))
        runs = log.split("line 1\n")[1:]
        for run in runs:  # every attempt's part is a whole beginning of what it writes
            whole = "".join(f"line {number}\n" for number in range(2, LINES + 1))
            assert whole.startswith(run), run
        succeeded = [
            path for path in data.glob(f"work/{uid}/r0-0/attempt-*/exit.json") if '"Completed"' in path.read_text()
        ]
        assert len(succeeded) == 1
