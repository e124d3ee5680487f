"""A process that leads, and freezes itself once (SIGSTOP) between reading a resource and writing it.

python leader.py DATABASE TTL
"""

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from mlaas.kernel.errors import Fenced
from mlaas.kernel.loop import Done, Loop
from mlaas.kernel.resource import Resource
from mlaas.kernel.store.contract import KINDS
from mlaas.kernel.store.open import open_database


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def freeze(path: str) -> None:
    """Stop this process between two transactions: stopped within one it keeps SQLite's write lock, and nobody takes over."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        os.kill(os.getpid(), signal.SIGSTOP)


async def main() -> None:
    database = await open_database(Path(sys.argv[1]), KINDS)

    class Writer:
        kind = "note"
        frozen = False

        async def reconcile(self, project: str, name: str) -> Done:
            current = await database.get("note", project, name)
            epoch = loop.fence()
            if name == "trap" and not self.frozen:
                self.frozen = True
                say(f"frozen {epoch}")
                freeze(sys.argv[1])
            # The loop may notice its loss first and cancel what it runs: the late write is to reach the store all the same.
            writing = asyncio.create_task(self.write(current, epoch))
            await asyncio.shield(writing)
            return Done()

        async def write(self, current: Resource, epoch: int | None) -> None:
            current.status["epoch"] = epoch
            try:
                await database.update(current, fence=epoch)
            except Fenced:
                say(f"fenced {current.meta.name}")
                raise
            say(f"wrote {current.meta.name} {epoch}")

    loop = Loop(database, [Writer()], holder="first", ttl=float(sys.argv[2]))
    await loop.run()


asyncio.run(main())
