"""A read model is complete after it was built, and stays so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from mlaas.kernel.projection import Projection, follow
from mlaas.kernel.store.base import Change, Database
from mlaas.kernel.store.contract import KINDS, note
from mlaas.kernel.store.open import open_database


class Phases(Projection):
    """Names by phase."""

    name = "phases"

    def __init__(self) -> None:
        self.phase_of: dict[str, str] = {}
        self.revision = 0
        self.built = 0
        self.changed = asyncio.Event()

    async def reached(self) -> int:
        return self.revision

    async def apply(self, changes: Sequence[Change], revision: int) -> None:
        for change in changes:
            assert change.resource is not None
            if change.type == "put":
                self.phase_of[change.resource.meta.name] = change.resource.phase
            else:
                self.phase_of.pop(change.resource.meta.name, None)
        self.revision = revision
        self.changed.set()

    async def clear(self) -> None:
        self.phase_of, self.revision = {}, 0
        self.built += 1


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    yield database
    await database.close()


async def test_it_is_built_from_what_exists_and_goes_on_where_it_was(database: Database) -> None:
    for number in range(501):
        await database.create(note(f"n{number}", phase="Queued"))
    phases = Phases()
    await follow(database, phases, forever=False)
    assert (len(phases.phase_of), phases.revision) == (501, 501)
    await database.delete("note", "p", "n0")
    changed = await database.get("note", "p", "n1")
    changed.status["phase"] = "Running"
    await database.update(changed)
    await follow(database, phases, forever=False)
    assert (len(phases.phase_of), phases.phase_of["n1"], phases.revision) == (500, "Running", 503)
    assert phases.built == 1


async def test_it_is_built_anew_when_the_changes_are_compacted(database: Database) -> None:
    await database.create(note("a", phase="Queued"))
    phases = Phases()
    await follow(database, phases, forever=False)
    await database.delete("note", "p", "a")
    await database.create(note("b", phase="Queued"))
    await database.compact(2)
    await follow(database, phases, forever=False)
    assert (phases.phase_of, phases.revision, phases.built) == ({"b": "Queued"}, 3, 2)


async def test_it_follows(database: Database) -> None:
    phases = Phases()
    task = asyncio.create_task(follow(database, phases))
    for number in range(5):
        await database.create(note(f"n{number}"))
    async with asyncio.timeout(10):
        while phases.revision < 5:
            phases.changed.clear()
            await phases.changed.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert len(phases.phase_of) == 5
