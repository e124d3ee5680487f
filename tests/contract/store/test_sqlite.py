"""SQLite passes the store's contract, and what only SQLite can get wrong."""

import resource as limits
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from mlaas.kernel.errors import Full, Invalid, Unavailable
from mlaas.kernel.resource import Kinds, Meta, Resource
from mlaas.kernel.store.base import Database, Query, Token
from mlaas.kernel.store.contract import KINDS, OpenStore, StoreContract, note
from mlaas.kernel.store.open import open_database


class TestSqlite(StoreContract):
    @pytest.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[OpenStore]:
        opened: list[Database] = []

        async def open_another(kinds: Kinds) -> Database:
            opened.append(await open_database(tmp_path / "mlaas.db", kinds))
            return opened[-1]

        yield open_another
        for database in opened:
            await database.close()


async def fill(database: Database) -> None:
    """Write until it fails."""
    for number in range(100):
        await database.create(Resource("note", Meta(f"n{number}", "p"), {"text": "x" * 100_000}))


async def open_and_list(path: Path) -> None:
    database = await open_database(path, KINDS)
    try:
        await database.list(Query())
    finally:
        await database.close()


async def test_only_the_owner_reads_the_files(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/deep/mlaas.db", KINDS)
    await database.create(note("a"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    await database.close()
    assert modes == {0o600}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mlaas.db"], "closing folds the log into the file"


async def test_it_is_there_when_opened_again(tmp_path: Path) -> None:
    for number in range(2):
        database = await open_database(tmp_path / "mlaas.db", KINDS)
        await database.create(note(f"n{number}"))
        assert (await database.list(Query())).revision == number + 1
        await database.close()


async def test_other_schemes_are_refused() -> None:
    with pytest.raises(Invalid, match="mongodb"):
        await open_database("mongodb://host/x", KINDS)


async def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "mlaas.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(Unavailable, match="damaged") as caught:
        await open_database(tmp_path / "mlaas.db", KINDS)
    assert caught.value.hint


async def test_a_path_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be opened"):
        await open_database(tmp_path / "file" / "mlaas.db", KINDS)


async def test_a_damaged_page_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    for number in range(200):
        await database.create(note(f"n{number}", filler="x" * 500))
    await database.close()
    content = bytearray((tmp_path / "mlaas.db").read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    (tmp_path / "mlaas.db").write_bytes(content)
    with pytest.raises(Unavailable, match="damaged"):
        await open_and_list(tmp_path / "mlaas.db")


async def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    await (await open_database(tmp_path / "mlaas.db", KINDS)).close()
    connection = sqlite3.connect(tmp_path / "mlaas.db")
    connection.execute("UPDATE facts SET value = 99 WHERE name = 'layout'")
    connection.commit()
    connection.close()
    with pytest.raises(Unavailable, match="layout 99"):
        await open_database(tmp_path / "mlaas.db", KINDS)


async def test_a_database_of_the_first_layout_is_brought_up_to_date(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    old = Token("d1", "ci", "editor", None, "2026-01-01T00:00:00.000Z")
    await database.add_token(old)
    await database.close()
    connection = sqlite3.connect(tmp_path / "mlaas.db")
    connection.execute("ALTER TABLE tokens DROP COLUMN service")
    connection.execute("ALTER TABLE tokens DROP COLUMN lifetime")
    connection.execute("UPDATE facts SET value = 1 WHERE name = 'layout'")
    connection.commit()
    connection.close()
    for _ in range(2):
        database = await open_database(tmp_path / "mlaas.db", KINDS)
        assert await database.tokens() == [old]
        await database.close()


async def test_a_locked_database_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlaas.kernel.store.sql.connections.PATIENCE", 50)
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    connection = sqlite3.connect(tmp_path / "mlaas.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked by another process"):
        await database.create(note("a"))
    connection.execute("ROLLBACK")
    connection.close()
    assert (await database.create(note("a"))).meta.version == 1
    await database.close()


async def test_a_full_disk_refuses_the_write_and_keeps_the_rest(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    await database.create(note("before"))
    pages = f"PRAGMA max_page_count = {(tmp_path / 'mlaas.db').stat().st_size // 4096 + 40}"
    with database._writer._engine.begin() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql(pages)
    with pytest.raises(Full) as caught:
        await fill(database)
    assert caught.value.status == 507
    page = await database.list(Query())
    assert len(page.items) == page.revision, "every acknowledged write is there, no other"
    assert await database.delete("note", "p", page.items[-1].meta.name) is None, "and it goes on"
    await database.close()


async def test_file_size_limit_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """A quota that the disk refuses in the middle of a write (EFBIG stands for EDQUOT)."""
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    before = limits.getrlimit(limits.RLIMIT_FSIZE)
    limits.setrlimit(limits.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises((Unavailable, Full)) as caught:
            await fill(database)
        assert caught.value.hint
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, before)
    page = await database.list(Query())
    assert len(page.items) == page.revision
    await database.create(note("after"))
    await database.close()


async def test_a_thousand_are_listed_in_well_under_100_ms(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    for number in range(1000):
        await database.create(
            note(f"n{number}", phase="Queued", conditions=[{"type": "Admitted", "message": "x" * 200}])
        )
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        page = await database.list(Query("note", projects=frozenset({"p"}), order="-created"))
        orjson.dumps([item.to_json() for item in page.items])
        times.append(time.perf_counter() - begin)
    await database.close()
    assert len(page.items) == 1000
    assert min(times) < 0.1
