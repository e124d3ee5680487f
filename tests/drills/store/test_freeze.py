"""A leader that is frozen past its lease: another takes over, and the late write of the first is refused."""

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from mlaas.kernel.loop import Done, Loop
from mlaas.kernel.store.base import Database
from mlaas.kernel.store.contract import KINDS, note
from mlaas.kernel.store.open import open_database

LEADER = Path(__file__).with_name("leader.py")
TTL = 3.0


def start_leader(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(LEADER), str(path), str(TTL)], stdout=subprocess.PIPE, text=True)


class Writer:
    """Writes the epoch of its loop into each resource, as the one in the other process does."""

    kind = "note"

    def __init__(self, database: Database) -> None:
        self.database = database
        self.loop = Loop(database, [self], holder="second", ttl=TTL)

    async def reconcile(self, project: str, name: str) -> Done:
        current = await self.database.get("note", project, name)
        current.status["epoch"] = self.loop.fence()
        await self.database.update(current, fence=self.loop.fence())
        return Done()


async def epoch_above(database: Database, name: str, least: int) -> None:
    """Wait until the resource `name` was written under an epoch above `least`."""
    async with asyncio.timeout(60):
        async for change in database.changes(0):
            if change.resource and change.resource.meta.name == name and change.resource.status.get("epoch", 0) > least:
                return


async def line(output: IO[str]) -> str:
    """The next line; the process is killed by the caller if none comes."""
    async with asyncio.timeout(60):
        return (await asyncio.to_thread(output.readline)).strip()


async def test_late_writes_of_a_frozen_leader_are_refused(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    process = start_leader(tmp_path / "mlaas.db")
    output = process.stdout
    assert output is not None
    second = Writer(database)
    task: asyncio.Task[None] | None = None
    try:
        await database.create(note("before"))
        await epoch_above(database, "before", 0)
        await database.create(note("trap"))
        said = "wrote before"
        while said.startswith("wrote before"):
            said = await line(output)
        assert said.startswith("frozen ")
        old = int(said.removeprefix("frozen "))  # 1, unless so busy a machine that its lease ran out before

        task = asyncio.create_task(second.loop.run())
        await epoch_above(database, "trap", old)
        taken_over_at = await database.revision()

        process.send_signal(signal.SIGCONT)
        assert await line(output) == "fenced trap"
        await database.create(note("after"))
        await epoch_above(database, "after", old)
        written = [
            change.resource.status.get("epoch")
            async for change in database.changes(taken_over_at, follow=False)
            if change.resource
        ]
        assert old not in written

        task.cancel()  # the second gives its lease back: the first leads again, under a new epoch
        with suppress(asyncio.CancelledError):
            await task
        await database.create(note("last"))
        await epoch_above(database, "last", old)
    finally:
        process.kill()
        process.wait()
        output.close()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await database.close()
