"""The half of the store's contract that is not about resources: leases and fences, tokens, points, events."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from mlaas.kernel.errors import Exists, Fenced, NotFound
from mlaas.kernel.resource import Kind, Kinds, Meta, Resource, Spec
from mlaas.kernel.store.base import Database, Event, Point, Token

NOTE = Kind("note", "notes", Spec)
BOX = Kind("box", "boxes", Spec, finalizers=("content",))
KINDS = Kinds([NOTE, BOX])

OpenStore = Callable[[Kinds], Awaitable[Database]]


def note(name: str, project: str = "p", **status: Any) -> Resource:
    return Resource("note", Meta(name, project), {"text": name}, status)


def box(name: str) -> Resource:
    return Resource("box", Meta(name, "p"))


class RecordsContract:
    """Part of `StoreContract`."""

    @pytest.fixture
    async def open_store(self) -> OpenStore:
        raise NotImplementedError("A back end's test class has a fixture `open_store`.")

    @pytest.fixture
    async def database(self, open_store: OpenStore) -> Database:
        return await open_store(KINDS)

    # -- leases ------------------------------------------------------------------------------------------------------

    async def test_one_holder_at_a_time(self, open_store: OpenStore) -> None:
        one, two = await open_store(KINDS), await open_store(KINDS)
        first = await one.acquire("one", 60)
        assert first is not None
        assert (first.holder, first.epoch, first.ttl) == ("one", 1, 60)
        assert await two.acquire("two", 60) is None
        assert await one.renew(first)
        await one.release(first)
        second = await two.acquire("two", 60)
        assert second is not None
        assert second.epoch == 2
        assert not await one.renew(first)
        await one.release(first)  # gives back nothing that is not its own
        assert await two.renew(second)

    async def test_the_same_holder_gets_it_again_with_a_new_epoch(self, database: Database) -> None:
        first, second = await database.acquire("one", 60), await database.acquire("one", 60)
        assert first is not None
        assert second is not None
        assert second.epoch == first.epoch + 1
        assert not await database.renew(first)

    async def test_a_lease_runs_out(self, database: Database) -> None:
        assert await database.acquire("one", 0.2)
        begin = time.monotonic()
        while (lease := await database.acquire("two", 60)) is None:
            assert time.monotonic() - begin < 10
            await asyncio.sleep(0.02)
        assert lease.epoch == 2
        assert time.monotonic() - begin > 0.1

    async def test_writes_behind_an_older_fence_are_refused(self, database: Database) -> None:
        old = await database.acquire("one", 60)
        assert old is not None
        made = await database.create(note("a"), fence=old.epoch)
        await database.release(old)
        new = await database.acquire("two", 60)
        assert new is not None
        made.status["phase"] = "Running"
        with pytest.raises(Fenced):
            await database.update(made, fence=old.epoch)
        with pytest.raises(Fenced):
            await database.create(note("b"), fence=old.epoch)
        with pytest.raises(Fenced):
            await database.delete("note", "p", "a", fence=old.epoch)
        assert await database.revision() == 1
        assert (await database.update(made, fence=new.epoch)).meta.version == 2

    # -- tokens ------------------------------------------------------------------------------------------------------

    async def test_tokens_are_found_by_digest_and_removed_by_name(self, database: Database) -> None:
        plain = Token("d1", "ci", "editor", None, "2026-01-01T00:00:00.000Z")
        scoped = Token("d2", "b", "workload", frozenset({"p"}), "2026-01-01T00:00:00.000Z", 5.0, "u", frozenset({"h"}))
        await database.add_token(plain)
        await database.add_token(scoped)
        assert await database.find_token("d1") == plain
        assert await database.find_token("d2") == scoped
        assert await database.find_token("d3") is None
        assert await database.tokens() == [scoped, plain]
        with pytest.raises(Exists):
            await database.add_token(Token("d4", "ci", "viewer", None, ""))
        caller = Token("d5", "c", "caller", frozenset({"p"}), "", 9.0, service="iris", lifetime=4.0)
        await database.add_token(caller)
        assert await database.find_token("d5") == caller
        assert await database.prolong_token("d5", 13.0) == replace(caller, expires=13.0)
        assert (await database.tokens())[1].expires == 13.0
        with pytest.raises(NotFound):
            await database.prolong_token("d6", 13.0)
        await database.remove_token("ci")
        assert await database.find_token("d1") is None
        with pytest.raises(NotFound):
            await database.remove_token("ci")

    # -- points and events -------------------------------------------------------------------------------------------

    async def test_points_come_back_in_order_of_arrival(self, database: Database) -> None:
        values = [0.5, -math.inf, 1e300]
        await database.append([Point("u", "loss", step, 100.0 + step, value) for step, value in enumerate(values)])
        await database.append([Point("u", "accuracy", 0, 100.0, 0.9), Point("v", "loss", 0, 100.0, math.nan)])
        await database.append([])
        rows = await database.points("u")
        assert [point.value for _, point in rows] == [*values, 0.9]
        assert [point.step for _, point in await database.points("u", "loss", after=rows[0][0])] == [1, 2]
        assert [point.value for _, point in await database.points("u", limit=2)] == values[:2]
        assert math.isnan((await database.points("v"))[0][1].value)
        assert await database.revision() == 0, "points are not revisions"

    async def test_repeated_events_are_counted(self, database: Database) -> None:
        event = Event("u", "p", "note", "a", "BackOff", "It failed.", type="Warning")
        await database.record(event)
        await database.record(Event("u", "p", "note", "a", "Started", "It runs."))
        before = await database.events()
        await database.record(event)
        after = await database.events()
        assert [(seen.reason, seen.count) for _, seen in after] == [("Started", 1), ("BackOff", 2)]
        assert after[1][0] > before[-1][0], "a repeat moves to a new position"
        assert after[1][1].first_seen == before[0][1].first_seen
        assert after[1][1].last_seen >= after[1][1].first_seen
        assert await database.events(after=before[-1][0]) == after[1:]

    async def test_events_by_project_and_owner(self, database: Database) -> None:
        for owner, project in (("u", "p"), ("v", "q"), ("w", "q")):
            await database.record(Event(owner, project, "note", "a", "Started", ""))
        assert [event.owner for _, event in await database.events(frozenset({"q"}))] == ["v", "w"]
        assert [event.owner for _, event in await database.events(frozenset({"q"}), owner="w")] == ["w"]
        assert await database.events(frozenset()) == []
        assert len(await database.events(limit=2)) == 2

    async def test_trim_keeps_by_age_and_count(self, database: Database) -> None:
        moment = time.time()
        await database.append([Point("u", "loss", step, moment, float(step)) for step in range(10)])
        await database.append([Point("v", "loss", 0, moment - 1000, 0.0), Point("v", "loss", 1, moment, 1.0)])
        await database.record(Event("u", "p", "note", "a", "Old", "", last_seen="2020-01-01T00:00:00.000Z"))
        await database.record(Event("u", "p", "note", "a", "New", ""))
        await database.trim(points_age=500, points_per_owner=4, events_age=500)
        assert [point.step for _, point in await database.points("u")] == [6, 7, 8, 9]
        assert [point.step for _, point in await database.points("v")] == [1]
        assert [event.reason for _, event in await database.events()] == ["New"]
