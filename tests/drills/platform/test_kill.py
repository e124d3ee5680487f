"""kill -9 at random moments while tasks are in flight: nothing accepted is lost, nothing runs to success twice."""

import contextlib
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
from tests.platform import Platform, leftovers

from mlaas.client import Client
from mlaas.client.errors import Unreachable

KILLS = int(os.environ.get("MLAAS_DRILL_KILLS", "100"))
TASKS = 20
LINES = 150
SCRIPT = 'i=1; while [ $i -le %d ]; do echo "line $i"; i=$((i+1)); sleep 0.1; done; echo end'


def _command(process: psutil.Process | None) -> str:
    return " ".join(process.cmdline()) if process is not None else ""


def _is_shell(command: str) -> bool:
    """Runs the script. A shell below such a shell was forked to become `sleep`: its death is no death of the task."""
    return "line $i" in command and "shim" not in command


def _victims(data: Path, platform_pid: int) -> dict[str, list[int]]:
    """pids by what they are: `server` (fork server), `task` (the work itself, not its shim)."""
    found: dict[str, list[int]] = {"server": [], "task": []}
    for pid in leftovers(data):
        if pid == platform_pid:
            continue
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            command, parent = _command(process), _command(process.parent())
            if "forkserver" in command:
                found["server"].append(pid)
            elif _is_shell(command) and not _is_shell(parent):
                found["task"].append(pid)
    return found


def _kill_one(platform: Platform, chance: random.Random) -> str | None:
    what = chance.choices(["platform", "server", "task"], [3, 2, 5])[0]
    if what == "platform":
        platform.kill()
        time.sleep(chance.random() * 0.3)
        platform.start()
        return what
    victims = _victims(platform.data, platform.pid)[what]
    if not victims:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(victims), signal.SIGKILL)
        return what
    return None


def _phases(client: Client) -> dict[str, str]:
    return {task["meta"]["name"]: task["status"].get("phase", "") for task in client.list("tasks", limit=1000)["items"]}


def _check_log(text: str) -> None:
    """Every attempt counts from line 1 without a gap, and the last one counts to the end."""
    attempts = re.split(r"(?m)^(?=line 1$)", text)
    assert attempts[0] == "", f"the log does not begin with line 1: {text[:200]!r}"
    for attempt in attempts[1:]:
        lines = [line for line in attempt.splitlines() if line]
        numbers = [int(line.split()[1]) for line in lines if re.fullmatch(r"line \d+", line)]
        # A killed writer may leave its last line without an end; nothing else may be missing or doubled.
        assert numbers == list(range(1, len(numbers) + 1)), attempt
    final = attempts[-1].splitlines()
    assert final == [f"line {i}" for i in range(1, LINES + 1)] + ["end"]


def _exits(data: Path, uid: str) -> list[dict[str, object]]:
    """The exit records of a workload's replica, in the order of its attempts."""
    folders = sorted((data / "work" / uid / "main-0").glob("attempt-*"), key=lambda p: int(p.name.split("-")[1]))
    return [json.loads((f / "exit.json").read_text()) if (f / "exit.json").exists() else {} for f in folders]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_when_anything_dies(tmp_path: Path) -> None:
    chance = random.Random(20261125)
    kills: dict[str, int] = {"platform": 0, "server": 0, "task": 0}
    wave = 0
    with Platform(tmp_path, MLAAS_CPUS="2") as platform:
        while sum(kills.values()) < KILLS:
            names = _start_wave(platform, wave)
            wave += 1
            while sum(kills.values()) < KILLS:
                time.sleep(chance.random() * 0.4)
                killed = _kill_one(platform, chance)
                if killed:
                    kills[killed] += 1
                with platform.client() as client:
                    phases = _phases(client)
                if all(phases[name] == "Succeeded" for name in names):
                    break
            _settle(platform, names)
        print(f"kills: {kills} in {wave} waves of {TASKS} tasks")
        with platform.client() as client:
            for task in client.list("tasks", limit=1000)["items"]:
                _check_task(platform, client, task)
    assert kills["platform"] >= KILLS // 10
    assert kills["task"] >= KILLS // 10


def _start_wave(platform: Platform, wave: int) -> list[str]:
    names = [f"wave-{wave}-{i}" for i in range(TASKS)]
    resources = {"cpu": 0.05, "memory": 32 << 20}
    with platform.client() as client:
        for name in names:
            client.submit({"recipe": "script", "command": ["sh", "-c", SCRIPT % LINES], "resources": resources}, name)
    return names


def _settle(platform: Platform, names: list[str]) -> None:
    deadline = time.monotonic() + 300
    while True:
        with contextlib.suppress(Unreachable), platform.client() as client:
            phases = _phases(client)
            ended = [phases[name] for name in names if phases[name] in ("Succeeded", "Failed", "Cancelled")]
            assert "Failed" not in ended, phases
            if len(ended) == len(names):
                return
        assert time.monotonic() < deadline, {n: p for n, p in phases.items() if p != "Succeeded"}
        time.sleep(0.5)


def _check_task(platform: Platform, client: Client, task: dict[str, object]) -> None:
    meta, status = task["meta"], task["status"]
    assert isinstance(meta, dict)
    assert isinstance(status, dict)
    assert status["phase"] == "Succeeded", status
    (workload,) = [
        w for w in client.list("workloads", limit=1000)["items"] if w["meta"].get("owner", {}).get("uid") == meta["uid"]
    ]
    exits = _exits(platform.data, workload["meta"]["uid"])
    succeeded = [i for i, record in enumerate(exits) if record.get("code") == 0]
    assert succeeded == [len(exits) - 1], exits
    _check_log(b"".join(client.logs(meta["name"])).decode())
