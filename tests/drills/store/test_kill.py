"""kill -9 of a process in the middle of its writes: every acknowledged write is there, and the log is whole."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mlaas.kernel.store.base import Query
from mlaas.kernel.store.contract import KINDS
from mlaas.kernel.store.open import open_database

WRITER = Path(__file__).with_name("writer.py")


@contextmanager
def killed_after(seconds: float, database: Path, number: int) -> Iterator[list[bytes]]:
    """The lines that a writer acknowledged before it was killed."""
    lines: list[bytes] = []
    process = subprocess.Popen([sys.executable, str(WRITER), str(database), str(number)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        lines = process.stdout.read().split(b"\n")[:-1]  # what has no newline was cut by the kill
        timer.join()
        assert process.wait(30) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    yield lines


async def check(path: Path, acknowledged: dict[str, tuple[int, int]]) -> None:
    database = await open_database(path, KINDS)
    try:
        page = await database.list(Query())
        stored = {item.meta.name: (item.meta.version, item.status.get("n", 0)) for item in page.items}
        for name, (version, n) in acknowledged.items():
            assert name in stored, f"{name} was acknowledged at revision {version}"
            assert stored[name][0] >= version
            assert stored[name][1] >= n
        changes = [change async for change in database.changes(0, follow=False) if change.type != "bookmark"]
        assert [change.revision for change in changes] == list(range(1, page.revision + 1)), "the log has no gap"
        last = {change.resource.meta.name: change.revision for change in changes if change.resource}
        assert last == {name: version for name, (version, _) in stored.items()}, "the index is what the log says"
    finally:
        await database.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def drill(path: Path, rounds: int, seed: int) -> None:
    moments = random.Random(seed)
    acknowledged: dict[str, tuple[int, int]] = {}
    for number in range(rounds):
        with killed_after(moments.uniform(0.0, 0.25), path, number) as lines:
            for line in lines:
                name, version, n = line.decode().split()
                acknowledged[name] = (int(version), int(n))
        await check(path, acknowledged)
    assert len(acknowledged) > rounds


async def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    await drill(tmp_path / "mlaas.db", rounds=5, seed=1)


@pytest.mark.slow
async def test_acknowledged_writes_survive_many_kills(tmp_path: Path) -> None:
    await drill(tmp_path / "mlaas.db", rounds=40, seed=2)
