"""A process that writes as fast as it can and says, on stdout, which writes were acknowledged. Made to be killed.

python writer.py DATABASE ROUND
"""

import asyncio
import os
import sys
from pathlib import Path

from mlaas.kernel.resource import Resource
from mlaas.kernel.store.base import Point
from mlaas.kernel.store.contract import KINDS, note
from mlaas.kernel.store.open import open_database


def acknowledge(resource: Resource) -> None:
    os.write(1, f"{resource.meta.name} {resource.meta.version} {resource.status.get('n', 0)}\n".encode())


async def main() -> None:
    database = await open_database(Path(sys.argv[1]), KINDS)

    async def write(writer: str) -> None:
        number = 0
        while True:
            number += 1
            resource = await database.create(note(f"{writer}-{number}", filler="x" * (number % 50) * 100))
            acknowledge(resource)
            for n in (1, 2):
                resource.status["n"] = n
                resource = await database.update(resource)
                acknowledge(resource)
            await database.append([Point(resource.meta.uid, "loss", number, 0.0, 1.0)])
            if number % 20 == 0:
                await database.compact(0)

    os.write(1, b"ready\n")
    await asyncio.gather(*(write(f"r{sys.argv[2]}-w{number}") for number in range(4)))


asyncio.run(main())
