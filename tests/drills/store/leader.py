"""A process that leads, and freezes itself once (SIGSTOP) between reading a resource and writing it.

python leader.py DATABASE TTL
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from mlaas.kernel.errors import Fenced
from mlaas.kernel.loop import Done, Loop
from mlaas.kernel.store.contract import KINDS
from mlaas.kernel.store.open import open_database


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def main() -> None:
    database = await open_database(Path(sys.argv[1]), KINDS)

    class Writer:
        kind = "note"

        async def reconcile(self, project: str, name: str) -> Done:
            current = await database.get("note", project, name)
            if name == "trap" and loop.fence() == 1:
                say(f"frozen {loop.fence()}")
                os.kill(os.getpid(), signal.SIGSTOP)
            current.status["epoch"] = loop.fence()
            try:
                await database.update(current, fence=loop.fence())
            except Fenced:
                say(f"fenced {name}")
                raise
            say(f"wrote {name} {loop.fence()}")
            return Done()

    loop = Loop(database, [Writer()], holder="first", ttl=float(sys.argv[2]))
    await loop.run()


asyncio.run(main())
