"""The tests that every back end passes. A back end subclasses `StoreContract` with one fixture, `open_store`:

class TestMine(StoreContract):
    @pytest.fixture
    async def open_store(self):
        ...  # yields an async function: Kinds -> Database, every one on the same data, closed by the fixture
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlaas.kernel.errors import Compacted, Conflict, Exists, Invalid, NotFound
from mlaas.kernel.resource import Json, Kind, Kinds, Meta, Resource, Spec
from mlaas.kernel.store.base import Change, Database, Query
from mlaas.kernel.store.contract_records import BOX, KINDS, OpenStore, RecordsContract, box, note


async def collect(database: Database, since: int) -> list[Change]:
    """All changes up to now, bookmarks included."""
    return [change async for change in database.changes(since, follow=False)]


class StoreContract(RecordsContract):
    """What `mlaas.kernel.store.base` promises, sentence by sentence."""

    # -- one resource ------------------------------------------------------------------------------------------------

    async def test_create_completes_the_meta_and_get_returns_it(self, database: Database) -> None:
        given = Resource(
            "box", Meta("a", "p", title="A box", labels={"x": "1"}), {"n": [1, 2.5, "é"]}, {"phase": "Open"}
        )
        made = await database.create(given)
        assert made.meta.uid
        assert made.meta.created.endswith("Z")
        assert (made.meta.version, made.meta.generation, made.meta.finalizers) == (1, 1, ["content"])
        assert (given.meta.uid, given.meta.version) == ("", 0), "the argument is the caller's"
        assert await database.get("box", "p", "a") == made
        assert (made.spec, made.status, made.meta.labels) == (given.spec, given.status, {"x": "1"})

    async def test_returned_resources_are_copies(self, database: Database) -> None:
        given = note("a", tags=["x"])
        made = await database.create(given)
        made.status["tags"].append("y")
        assert given.status["tags"] == ["x"]
        assert (await database.get("note", "p", "a")).status["tags"] == ["x"]

    async def test_names_are_taken_per_kind_and_project(self, database: Database) -> None:
        await database.create(note("a"))
        with pytest.raises(Exists):
            await database.create(note("a"))
        await database.create(note("a", project="q"))
        await database.create(box("a"))
        assert await database.revision() == 3, "a refused write makes no revision"

    async def test_bad_input_is_refused(self, database: Database) -> None:
        with pytest.raises(Invalid):
            await database.create(note("Not A Name"))
        with pytest.raises(Invalid):
            await database.create(Resource("note", Meta("a", "p"), {"x": object()}))
        with pytest.raises(NotFound):
            await database.create(Resource("ghost", Meta("a", "p")))
        assert await database.revision() == 0

    async def test_what_is_not_there_is_not_found(self, database: Database) -> None:
        with pytest.raises(NotFound, match="no note 'a' in project 'p'"):
            await database.get("note", "p", "a")
        with pytest.raises(NotFound):
            await database.update(note("a"))
        with pytest.raises(NotFound):
            await database.delete("note", "p", "a")

    async def test_update_swaps_only_the_version_it_read(self, database: Database) -> None:
        made = await database.create(note("a"))
        made.status["phase"] = "Running"
        changed = await database.update(made)
        assert (changed.meta.version, changed.phase) == (2, "Running")
        made.status["phase"] = "Lost"
        with pytest.raises(Conflict):
            await database.update(made)
        assert (await database.get("note", "p", "a")).phase == "Running"

    async def test_a_successor_of_the_same_name_is_another_resource(self, database: Database) -> None:
        first = await database.create(note("a"))
        await database.delete("note", "p", "a")
        second = await database.create(note("a"))
        assert second.meta.uid != first.meta.uid
        first.meta.version = second.meta.version
        with pytest.raises(Conflict):
            await database.update(first)

    async def test_of_racing_updates_one_wins(self, database: Database) -> None:
        made = await database.create(note("a", writer=-1))

        async def race(number: int) -> bool:
            mine = Resource.from_json({**made.to_json(), "status": {"writer": number}})
            try:
                await database.update(mine)
            except Conflict:
                return False
            return True

        won = [number for number, success in enumerate(await asyncio.gather(*map(race, range(20)))) if success]
        assert [(await database.get("note", "p", "a")).status["writer"]] == won
        assert await database.revision() == 2

    async def test_counters_raised_by_many_lose_nothing(self, open_store: OpenStore) -> None:
        stores = [await open_store(KINDS), await open_store(KINDS)]
        await stores[0].create(note("a", total=0))

        async def add(store: Database) -> None:
            for _ in range(5):
                while True:
                    current = await store.get("note", "p", "a")
                    current.status["total"] += 1
                    try:
                        await store.update(current)
                        break
                    except Conflict:
                        continue

        await asyncio.gather(*(add(store) for store in stores * 2))
        assert (await stores[0].get("note", "p", "a")).status["total"] == 20

    async def test_an_update_that_changes_nothing_makes_no_revision(self, database: Database) -> None:
        made = await database.create(note("a", phase="Running"))
        assert await database.update(made) == made
        assert await database.revision() == 1

    async def test_generation_counts_changes_of_the_spec(self, database: Database) -> None:
        made = await database.create(note("a"))
        made.status["phase"] = "Running"
        made = await database.update(made)
        assert made.meta.generation == 1
        made.spec["text"] = "other"
        made.meta.generation = 77
        assert (await database.update(made)).meta.generation == 2

    async def test_identity_is_the_stores(self, database: Database) -> None:
        made = await database.create(note("a"))
        forged = Resource.from_json(made.to_json())
        forged.meta.created, forged.meta.deleted, forged.meta.title = "1970-01-01T00:00:00Z", "now", "new"
        changed = await database.update(forged)
        assert (changed.meta.created, changed.meta.deleted) == (made.meta.created, None)
        assert changed.meta.title == "new"

    # -- deletion ----------------------------------------------------------------------------------------------------

    async def test_without_finalizers_delete_removes_at_once(self, database: Database) -> None:
        await database.create(note("a"))
        assert await database.delete("note", "p", "a") is None
        with pytest.raises(NotFound):
            await database.get("note", "p", "a")
        assert (await database.list(Query("note"))).items == []

    async def test_delete_heeds_the_version(self, database: Database) -> None:
        made = await database.create(note("a"))
        with pytest.raises(Conflict):
            await database.delete("note", "p", "a", version=made.meta.version + 1)
        assert await database.delete("note", "p", "a", version=made.meta.version) is None

    async def test_finalizers_hold_the_resource_and_its_name(self, database: Database) -> None:
        await database.create(box("a"))
        marked = await database.delete("box", "p", "a")
        assert marked is not None
        assert marked.meta.deleted
        again = await database.delete("box", "p", "a")
        assert again == marked, "repeating it changes nothing"
        assert await database.revision() == 2
        with pytest.raises(Exists, match="being deleted"):
            await database.create(box("a"))
        marked.meta.finalizers = []
        await database.update(marked)
        with pytest.raises(NotFound):
            await database.get("box", "p", "a")
        last = (await collect(database, 2))[0]
        assert (last.type, last.revision) == ("delete", 3)
        await database.create(box("a"))

    async def test_finalizers_may_go_before_deletion(self, database: Database) -> None:
        made = await database.create(box("a"))
        made.meta.finalizers = []
        await database.update(made)
        assert (await database.get("box", "p", "a")).meta.finalizers == []

    # -- lists -------------------------------------------------------------------------------------------------------

    async def test_filters(self, database: Database) -> None:
        parent = await database.create(note("parent", phase="Running"))
        for name, project, phase, labels in [
            ("run-1", "p", "Failed", {"team": "a", "site": "x"}),
            ("run-2", "p", "Running", {"team": "b"}),
            ("other", "q", "Running", {"team": "a"}),
        ]:
            resource = note(name, project, phase=phase)
            resource.meta.labels = labels
            resource.meta.owner = {"kind": "note", "name": "parent", "uid": parent.meta.uid} if project == "p" else None
            await database.create(resource)
        await database.create(box("run-3"))

        async def names(**query: Any) -> list[str]:
            page = await database.list(Query(**query))
            assert sum((await database.count(Query(**query))).values()) == len(page.items)
            return [item.meta.name for item in page.items]

        assert await names() == ["other", "parent", "run-1", "run-2", "run-3"]
        assert await names(kind="box") == ["run-3"]
        assert await names(projects=frozenset({"q"})) == ["other"]
        assert await names(projects=frozenset()) == [], "no project is not every project"
        assert await names(prefix="run-") == ["run-1", "run-2", "run-3"]
        assert await names(prefix="run%") == []
        assert await names(labels={"team": "a"}) == ["other", "run-1"]
        assert await names(labels={"team": "a", "site": "x"}) == ["run-1"]
        assert await names(owner=parent.meta.uid) == ["run-1", "run-2"]
        assert await names(uid=parent.meta.uid) == ["parent"]
        assert await names(uid="nobody") == []
        assert await names(phases=frozenset({"Failed", "Running"}), kind="note", prefix="r") == ["run-1", "run-2"]
        assert await database.count(Query("note")) == {"Failed": 1, "Running": 3}

    async def test_filters_follow_updates(self, database: Database) -> None:
        made = await database.create(note("a", phase="Pending"))
        made.meta.labels, made.status["phase"] = {"x": "2"}, "Running"
        await database.update(made)
        assert len((await database.list(Query(labels={"x": "2"}, phases=frozenset({"Running"})))).items) == 1
        assert await database.count(Query(phases=frozenset({"Pending"}))) == {}

    async def test_orders(self, database: Database) -> None:
        for name in ("b", "c", "a"):
            await database.create(note(name))
        changed = await database.get("note", "p", "b")
        changed.status["phase"] = "Running"
        await database.update(changed)
        orders: dict[Any, str] = {"name": "abc", "created": "bca", "-created": "acb"}
        for order, expected in orders.items():
            page = await database.list(Query("note", order=order))
            assert "".join(item.meta.name for item in page.items) == expected
        with pytest.raises(Invalid):
            await database.list(Query(order="size"))  # type: ignore[arg-type]

    @pytest.mark.parametrize("order", ["name", "created", "-created"])
    async def test_pages_stay_right_while_rows_change(self, database: Database, order: Any) -> None:
        for number in range(10):
            await database.create(note(f"n{number}"))
        stays = {f"n{number}" for number in range(10) if number not in (2, 7)}
        seen: list[str] = []
        after = None
        for turn in range(20):
            page = await database.list(Query("note", order=order, limit=3, after=after))
            assert len(page.items) <= 3
            seen += [item.meta.name for item in page.items]
            if turn == 0:  # one that was listed (or not yet), and one in the middle, go; some change; some come
                await database.delete("note", "p", "n2")
                await database.delete("note", "p", "n7")
                changed = await database.get("note", "p", "n5")
                changed.status["phase"] = "Running"
                await database.update(changed)
                await database.create(note("n55"))
            if page.next is None:
                break
            after = page.next
        assert len(seen) == len(set(seen)), "no row twice"
        assert stays <= set(seen), "none that stayed is missing"

    async def test_the_last_page_has_no_next(self, database: Database) -> None:
        for name in "ab":
            await database.create(note(name))
        assert (await database.list(Query("note", limit=2))).next is None
        assert (await database.list(Query("note", limit=1))).next is not None

    @pytest.mark.parametrize("token", ["", "x", "AAAA", "WyJuYW1lIl0", "WyJjcmVhdGVkIiwiYSJd", "é", "bnVsbA"])
    async def test_foreign_tokens_are_invalid(self, database: Database, token: str) -> None:
        with pytest.raises(Invalid):
            await database.list(Query(order="created", after=token))
        with pytest.raises(Invalid):
            await database.list(Query(order="name", after=token))

    async def test_a_list_is_true_at_its_revision(self, database: Database) -> None:
        """The list and the changes since its revision give the state: nothing is missed, nothing is told twice."""

        async def write() -> None:
            for number in range(30):
                await database.create(note(f"n{number}"))
                if number % 3 == 0:
                    await database.delete("note", "p", f"n{number}")

        writer = asyncio.create_task(write())
        lists = []
        while not writer.done():
            lists.append(await database.list(Query("note")))
        await writer
        final = {item.meta.name for item in (await database.list(Query("note"))).items}
        for page in lists:
            state = {item.meta.name for item in page.items}
            assert all(item.meta.version <= page.revision for item in page.items)
            for change in await collect(database, page.revision):
                if change.resource is not None:
                    name = change.resource.meta.name
                    state = state | {name} if change.type == "put" else state - {name}
            assert state == final

    # -- changes -----------------------------------------------------------------------------------------------------

    async def test_changes_are_puts_tombstones_and_bookmarks_in_order(self, database: Database) -> None:
        made = await database.create(note("a"))
        made.status["phase"] = "Running"
        await database.update(made)
        await database.delete("note", "p", "a")
        changes = await collect(database, 0)
        assert [(change.type, change.revision) for change in changes] == [
            ("put", 1),
            ("put", 2),
            ("delete", 3),
            ("bookmark", 3),
        ]
        assert changes[2].resource is not None
        assert changes[2].resource.phase == "Running", "a tombstone shows the resource as it last was"
        assert [change.type for change in await collect(database, 3)] == ["bookmark"]

    async def test_revisions_grow_by_one_and_become_visible_in_order(self, open_store: OpenStore) -> None:
        stores = [await open_store(KINDS) for _ in range(3)]
        seen: list[list[int]] = [[], []]

        async def read(store: Database, revisions: list[int]) -> None:
            async for change in store.changes(0):
                if change.type != "bookmark":
                    revisions.append(change.revision)
                if change.revision == 60:
                    return

        async def write(prefix: str) -> None:
            store = stores[ord(prefix) % 2]
            for number in range(20):
                await store.create(note(f"{prefix}{number}"))

        await asyncio.wait_for(
            asyncio.gather(*(read(stores[2], revisions) for revisions in seen), *(write(prefix) for prefix in "abc")),
            60,
        )
        assert seen == [list(range(1, 61))] * 2

    async def test_followers_hear_of_other_processes_writes(self, open_store: OpenStore) -> None:
        mine, other = await open_store(KINDS), await open_store(KINDS)
        changes = mine.changes(0)
        assert (await anext(changes)).type == "bookmark"
        waiting = asyncio.ensure_future(anext(changes))
        await other.create(note("a"))
        assert (await asyncio.wait_for(waiting, 10)).revision == 1
        await changes.aclose()  # type: ignore[attr-defined]

    async def test_below_the_horizon_changes_are_compacted(self, database: Database) -> None:
        made = await database.create(note("kept"))
        await database.create(note("gone"))
        await database.delete("note", "p", "gone")
        made.status["phase"] = "Running"
        await database.update(made)
        await database.compact(3)
        for since in (0, 2):
            with pytest.raises(Compacted):
                await collect(database, since)
        assert [change.revision for change in await collect(database, 3)] == [4, 4]
        assert (await database.get("note", "p", "kept")).phase == "Running"

    async def test_compaction_never_loses_what_is_current(self, database: Database) -> None:
        for number in range(5):
            await database.create(note(f"n{number}"))
        await database.delete("note", "p", "n4")
        await database.compact(10_000)
        await database.compact(1)
        assert len((await database.list(Query("note"))).items) == 4
        assert await database.revision() == 6
        assert [change.type for change in await collect(database, 6)] == ["bookmark"]
        with pytest.raises(Compacted):
            await collect(database, 5)
        assert (await database.create(note("n5"))).meta.version == 7, "a revision is never given twice"

    async def test_a_revision_from_the_future_is_compacted(self, database: Database) -> None:
        """As after a backup was restored: what was seen then is not what is here."""
        with pytest.raises(Compacted):
            await collect(database, 5)

    async def test_a_closed_store_ends_its_followers(self, open_store: OpenStore) -> None:
        database = await open_store(KINDS)
        follower = asyncio.create_task(_drain(database.changes(0)))
        await database.create(note("a"))
        await database.close()
        await asyncio.wait_for(follower, 10)

    # -- schema versions ---------------------------------------------------------------------------------------------

    async def test_stored_old_resources_are_upgraded_on_read(self, open_store: OpenStore) -> None:
        old = await open_store(KINDS)
        made = await old.create(Resource("note", Meta("a", "p"), {"txt": "hello"}))
        assert made.schema_version == 1

        def rename(document: Json) -> Json:
            return {**document, "spec": {"text": document["spec"]["txt"]}}

        def split(document: Json) -> Json:
            return {**document, "spec": {"words": document["spec"]["text"].split()}}

        new = await open_store(Kinds([Kind("note", "notes", Spec, schema_version=3, upgrades={1: rename, 2: split})]))
        read = await new.get("note", "p", "a")
        assert (read.schema_version, read.spec, read.meta.version) == (3, {"words": ["hello"]}, 1)
        assert (await new.list(Query("note"))).items == [read]
        assert (await collect(new, 0))[0].resource == read
        assert (await new.update(read)).meta.version == 1, "an upgrade alone changes nothing"
        read.status["phase"] = "Read"
        assert (await new.update(read)).meta.generation == 1
        assert (await new.create(note("b"))).schema_version == 3

    async def test_resources_of_a_removed_kind_stay_readable(self, open_store: OpenStore) -> None:
        await (await open_store(KINDS)).create(note("a"))
        without = await open_store(Kinds([BOX]))
        assert [item.meta.name for item in (await without.list(Query())).items] == ["a"]
        assert await without.delete("note", "p", "a") is None


async def _drain(changes: AsyncIterator[Change]) -> None:
    async for _ in changes:
        pass
