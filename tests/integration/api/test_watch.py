import asyncio
import contextlib
import json

import pytest

from mlaas.api import logs, watch
from mlaas.api.watch import Selector, stream
from mlaas.kernel.resource import Meta, Resource


async def yes():
    return True


class Watcher:
    """Reads the events of one stream."""

    def __init__(self, hub, selector, since=None, allowed=yes):
        self.frames = stream(hub, selector, since, allowed)

    async def next(self):
        async with asyncio.timeout(5):
            while True:
                frame = (await anext(self.frames)).decode()
                if frame.startswith(":"):
                    return "heartbeat", None, None
                fields = dict(line.split(": ", 1) for line in frame.strip().splitlines())
                return fields["event"], int(fields.get("id", 0)), json.loads(fields["data"])

    async def names(self, count):
        found = [await self.next() for _ in range(count)]
        return [(event, data["meta"]["name"]) for event, _, data in found]


@pytest.fixture
async def running(api):
    task = asyncio.create_task(api.hub.run())
    await api.hub.started.wait()
    yield api
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def note(api, name, project="default", **labels):
    return await api.context.database.create(Resource("note", Meta(name, project, labels=labels), {}))


async def test_it_begins_with_what_is_there_and_goes_on(running):
    await note(running, "a")
    watcher = Watcher(running.hub, Selector("note", frozenset({"default"})))
    assert await watcher.names(1) == [("put", "a")]
    assert (await watcher.next())[0] == "bookmark"
    await note(running, "other", "physics")
    await note(running, "b")
    await running.context.database.delete("note", "default", "a")
    assert await watcher.names(2) == [("put", "b"), ("delete", "a")]


async def test_every_id_is_a_place_to_resume_from(running):
    await note(running, "a")
    await note(running, "b")
    first = Watcher(running.hub, Selector("note"))
    _, revision, data = await first.next()
    assert data["meta"]["name"] == "a"
    resumed = Watcher(running.hub, Selector("note"), since=revision)
    assert await resumed.names(1) == [("put", "b")]


async def test_what_stops_matching_is_deleted_for_the_watcher(running):
    a = await note(running, "a", team="x")
    await note(running, "b", team="y")
    watcher = Watcher(running.hub, Selector("note", labels={"team": "x"}))
    assert await watcher.names(1) == [("put", "a")]
    assert (await watcher.next())[0] == "bookmark"
    await running.context.database.delete("note", "default", "b")
    a.meta.labels = {"team": "z"}
    await running.context.database.update(a)
    assert await watcher.names(1) == [("delete", "a")]


async def test_a_slow_watcher_gets_gone_and_the_others_go_on(running, monkeypatch):
    monkeypatch.setattr(watch, "QUEUE", 5)
    slow, quick = (Watcher(running.hub, Selector("note")) for _ in range(2))
    assert (await slow.next())[0] == "bookmark"
    assert (await quick.next())[0] == "bookmark"
    for i in range(8):
        await note(running, f"n{i}")
        assert (await quick.next())[2]["meta"]["name"] == f"n{i}"
    event, _, data = await slow.next()
    assert event == "gone"
    assert "List again" in data["hint"]


async def test_a_place_below_the_horizon_is_gone(running):
    for i in range(4):
        await note(running, f"n{i}")
    await running.context.database.compact(await running.context.database.revision())
    watcher = Watcher(running.hub, Selector("note"), since=1)
    assert (await watcher.next())[0] == "gone"


async def test_heartbeats_carry_the_position_and_end_with_the_permission(running, monkeypatch):
    monkeypatch.setattr(watch, "HEARTBEAT", 0.05)
    good = True

    async def allowed():
        return good

    watcher = Watcher(running.hub, Selector("job"), allowed=allowed)
    assert (await watcher.next())[0] == "bookmark"
    made = await note(running, "a")
    while (event := await watcher.next())[0] == "heartbeat":
        pass
    assert event[:2] == ("bookmark", made.meta.version)
    good = False
    assert await ending(watcher) == "unauthenticated"


async def ending(watcher):
    """The code that the stream's last event gives."""
    async with asyncio.timeout(5):
        last = [frame async for frame in watcher.frames][-1].decode()
    assert last.startswith("event: gone\n")
    return json.loads(last.partition("data: ")[2])["code"]


async def test_a_busy_stream_ends_with_the_permission_too(running, monkeypatch):
    monkeypatch.setattr(watch, "HEARTBEAT", 0.05)
    good = True

    async def allowed():
        return good

    watcher = Watcher(running.hub, Selector("note"), allowed=allowed)
    assert (await watcher.next())[0] == "bookmark"

    async def write():
        for i in range(1000):
            await note(running, f"n{i}")
            await asyncio.sleep(0.01)  # never a heartbeat's pause

    writing = asyncio.create_task(write())
    try:
        assert await watcher.names(1) == [("put", "n0")]
        good = False
        assert await ending(watcher) == "unauthenticated"
        assert not writing.done()
    finally:
        writing.cancel()


async def test_closing_ends_every_stream_at_once(running):
    watcher = Watcher(running.hub, Selector("note"))
    assert (await watcher.next())[0] == "bookmark"
    ended = asyncio.create_task(watcher.next())
    await asyncio.sleep(0)
    running.hub.close()
    with pytest.raises(StopAsyncIteration):
        await ended


async def test_a_log_ends_with_the_permission_too(monkeypatch):
    monkeypatch.setattr(watch, "HEARTBEAT", 0.0)
    closed = False

    async def endless():
        nonlocal closed
        try:
            while True:
                yield b"line\n"
        finally:
            closed = True

    answers = iter([True, True, False])

    async def allowed():
        return next(answers)

    assert [chunk async for chunk in logs._permitted(endless(), allowed)] == [b"line\n", b"line\n"]
    assert closed
