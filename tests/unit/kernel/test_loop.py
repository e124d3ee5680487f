"""The reconcile loop over a real store."""

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mlaas.kernel.errors import Conflict, Invalid, NotFound
from mlaas.kernel.loop import Again, Done, Loop, TerminalError
from mlaas.kernel.owned import children, delete_children
from mlaas.kernel.resource import Kind, Kinds, Meta, Resource, Spec
from mlaas.kernel.store.base import Database, Query
from mlaas.kernel.store.open import open_database

KINDS = Kinds(
    [Kind("job", "jobs", Spec), Kind("part", "parts", Spec), Kind("parent", "parents", Spec, finalizers=("c",))]
)


def job(name: str, **spec: Any) -> Resource:
    return Resource("job", Meta(name, "p"), spec)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(tmp_path / "mlaas.db", KINDS)
    yield database
    await database.close()


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if (await answer) if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(loop: Loop) -> AsyncIterator[Loop]:
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Recorder:
    """A reconciler that does what the test says and remembers its calls."""

    def __init__(self, step: Callable[[str], Awaitable[Done | Again]] | None = None, kind: str = "job") -> None:
        self.kind = kind
        self.calls: list[str] = []
        self._step = step

    async def reconcile(self, project: str, name: str) -> Done | Again:
        self.calls.append(name)
        return await self._step(name) if self._step else Done()


async def test_old_and_new_resources_are_reconciled(database: Database) -> None:
    await database.create(job("old"))
    recorder = Recorder()
    async with running(Loop(database, [recorder], holder="h")):
        await until(lambda: recorder.calls == ["old"])
        made = await database.create(job("new"))
        await until(lambda: recorder.calls == ["old", "new"])
        made.status["phase"] = "Changed"
        await database.update(made)
        await until(lambda: recorder.calls == ["old", "new", "new"])
        await database.delete("job", "p", "new")
        await until(lambda: recorder.calls == ["old", "new", "new", "new"])


async def test_a_step_towards_the_spec_settles(database: Database) -> None:
    loop: Loop

    async def count_up(name: str) -> Done | Again:
        current = await database.get("job", "p", name)
        if current.status.get("n", 0) < current.spec["n"]:
            current.status["n"] = current.status.get("n", 0) + 1
            await database.update(current, fence=loop.fence())
        return Done()  # its own write brings it back

    recorder = Recorder(count_up)
    loop = Loop(database, [recorder], holder="h", sweep=0.05)
    async with running(loop):
        await database.create(job("a", n=5))

        async def there() -> bool:
            return (await database.get("job", "p", "a")).status.get("n") == 5

        await until(there)
        await until(lambda: len(recorder.calls) == 6)
        await asyncio.sleep(0.3)
        assert len(recorder.calls) == 6, "sweeps leave alone what is settled at its version"


async def test_one_name_is_never_worked_on_twice_at_once_and_hints_are_merged(database: Database) -> None:
    gate, at_once, most = asyncio.Event(), 0, 0

    async def slow(name: str) -> Done:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await gate.wait()
        at_once -= 1
        return Done()

    recorder = Recorder(slow)
    async with running(Loop(database, [recorder], holder="h")) as loop:
        await database.create(job("a"))
        await until(lambda: recorder.calls == ["a"])
        for _ in range(50):
            loop.hint("job", "p", "a")
        gate.set()
        await until(lambda: len(recorder.calls) == 2)
        await until(lambda: loop.depth == 0 and at_once == 0)
        assert (most, len(recorder.calls)) == (1, 2)


async def test_different_names_are_worked_on_together_up_to_the_limit(database: Database) -> None:
    gate, at_once, most = asyncio.Event(), 0, 0

    async def slow(name: str) -> Done:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await gate.wait()
        at_once -= 1
        return Done()

    for number in range(10):
        await database.create(job(f"n{number}"))
    recorder = Recorder(slow)
    async with running(Loop(database, [recorder], holder="h", workers=4)):
        await until(lambda: at_once == 4)
        gate.set()
        await until(lambda: len(recorder.calls) == 10)
        assert most == 4


async def test_again_looks_again(database: Database) -> None:
    answers: list[Done | Again] = [Again(0.05), Again(0.05), Done()]

    async def step(name: str) -> Done | Again:
        return answers.pop(0)

    recorder = Recorder(step)
    async with running(Loop(database, [recorder], holder="h")):
        await database.create(job("a"))
        await until(lambda: not answers)
        assert recorder.calls == ["a"] * 3


async def test_a_hint_overtakes_again(database: Database) -> None:
    async def step(name: str) -> Again:
        return Again(3600)

    recorder = Recorder(step)
    async with running(Loop(database, [recorder], holder="h")) as loop:
        await database.create(job("a"))
        await until(lambda: len(recorder.calls) == 1)
        loop.hint("job", "p", "a")
        loop.hint("nobody", "p", "a")
        await until(lambda: len(recorder.calls) == 2)


@pytest.mark.parametrize("error", [Invalid("No such thing."), ZeroDivisionError("by 0"), Conflict()])
async def test_failures_are_repeated_with_back_off(
    database: Database, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    times: list[float] = []

    async def step(name: str) -> Done:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 5:
            raise error
        return Done()

    recorder = Recorder(step)
    async with running(Loop(database, [recorder], holder="h")) as loop:
        await database.create(job("a"))
        await until(lambda: len(times) == 5)
        await until(lambda: loop.counters.reconciled == 1)
        assert loop.counters.failed == 4
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for number, pause in enumerate(pauses):
        assert pause >= 0.05 * 2**number * 0.5
    events = [event for _, event in await database.events()]
    told = [record for record in caplog.records if record.levelno == logging.WARNING and "job p/a" in record.message]
    if isinstance(error, Conflict):
        assert (events, told) == ([], []), "the usual race is not worth a word"
    else:
        assert [(event.reason, event.count, event.type) for event in events] == [("ReconcileError", 4, "Warning")]
        assert str(error) in events[0].message
        assert len(told) == 4
        assert all(bool(record.exc_info) == isinstance(error, ZeroDivisionError) for record in told)


async def test_a_terminal_error_waits_for_a_change(database: Database) -> None:
    async def step(name: str) -> Done:
        if "fixed" not in (await database.get("job", "p", name)).spec:
            raise TerminalError("The spec can never work.")
        return Done()

    recorder = Recorder(step)
    async with running(Loop(database, [recorder], holder="h", sweep=0.05)) as loop:
        made = await database.create(job("a"))
        await until(lambda: loop.counters.failed == 1)
        await asyncio.sleep(0.3)
        assert len(recorder.calls) == 1
        made.spec["fixed"] = True
        await database.update(made)
        await until(lambda: loop.counters.reconciled == 1)
    assert [event.message for _, event in await database.events()] == ["The spec can never work."]


async def test_failures_of_a_resource_that_is_gone_end(database: Database) -> None:
    async def step(name: str) -> Done:
        await database.get("job", "p", name)
        return Done()

    recorder = Recorder(step)
    async with running(Loop(database, [recorder], holder="h")) as loop:
        loop.hint("job", "p", "ghost")
        await until(lambda: loop.leading)
        loop.hint("job", "p", "ghost")
        await until(lambda: loop.counters.failed == 1)
        await until(lambda: loop.depth == 0)
        await asyncio.sleep(0.2)
        assert recorder.calls == ["ghost"]


async def test_a_childs_change_hints_its_owner(database: Database) -> None:
    recorder = Recorder()
    owner = await database.create(job("a"))
    async with running(Loop(database, [recorder], holder="h")):
        await until(lambda: recorder.calls == ["a"])
        meta = Meta("b", "p", owner={"kind": "job", "name": "a", "uid": owner.meta.uid})
        await database.create(Resource("part", meta))
        await until(lambda: recorder.calls == ["a", "a"])
        await database.delete("part", "p", "b")
        await until(lambda: recorder.calls == ["a", "a", "a"])


async def test_sweeps_find_what_no_change_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    loop = Loop(database, [recorder], holder="h", sweep=0.05)
    monkeypatch.setattr(loop, "_see", lambda change: None)  # the changes are lost
    async with running(loop):
        await until(lambda: loop.leading)
        await database.create(job("a"))
        await until(lambda: recorder.calls == ["a"])


async def test_settled_resources_are_left_out_of_sweeps(database: Database) -> None:
    class Choosy(Recorder):
        def settled(self, resource: Resource) -> bool:
            return resource.phase == "Succeeded"

    await database.create(Resource("job", Meta("ended", "p"), status={"phase": "Succeeded"}))
    await database.create(job("open"))
    recorder = Choosy()
    async with running(Loop(database, [recorder], holder="h")):
        await until(lambda: recorder.calls)
        assert recorder.calls == ["open"]


async def test_it_goes_on_after_compaction(database: Database) -> None:
    recorder = Recorder()
    for number in range(5):
        await database.create(job(f"n{number}"))
    await database.compact(5)
    async with running(Loop(database, [recorder], holder="h")):
        await until(lambda: len(recorder.calls) == 5)


async def test_only_one_loop_acts_and_the_next_takes_over(database: Database) -> None:
    one, two = Recorder(), Recorder()
    await database.create(job("a"))
    second = Loop(database, [two], holder="two", ttl=30)
    async with contextlib.AsyncExitStack() as stack:
        async with running(Loop(database, [one], holder="one", ttl=30)):
            await until(lambda: one.calls == ["a"])
            await stack.enter_async_context(running(second))
            await database.create(job("b"))
            await until(lambda: one.calls == ["a", "b"])
            assert two.calls == []
            assert not second.leading
        await until(lambda: sorted(two.calls) == ["a", "b"])
        assert second.fence() == 2


async def test_a_loop_that_lost_its_lease_stops_acting(database: Database, tmp_path: Path) -> None:
    """Its lease is taken from under it: the first write is refused, and it waits to lead again."""
    outcomes: list[str] = []
    loop: Loop

    async def write(name: str) -> Done:
        current = await database.get("job", "p", name)
        current.status["epoch"] = loop.fence()
        await database.update(current, fence=loop.fence())
        outcomes.append(name)
        return Done()

    loop = Loop(database, [Recorder(write)], holder="one", ttl=30)
    async with running(loop):
        await database.create(job("a"))
        await until(lambda: outcomes)
        with contextlib.closing(sqlite3.connect(tmp_path / "mlaas.db", isolation_level=None)) as thief:
            thief.execute("UPDATE leases SET holder = 'two', epoch = epoch + 1, expires = ?", (time.time() + 0.5,))
        outcomes.clear()
        await database.create(job("b"))
        await until(lambda: not loop.leading)
        assert "b" not in outcomes
        await until(lambda: "b" in outcomes)
        assert loop.fence() == 3


async def test_the_lease_is_renewed(database: Database) -> None:
    async with running(Loop(database, [Recorder()], holder="one", ttl=0.6)) as loop:
        await until(lambda: loop.leading)
        for _ in range(20):
            await asyncio.sleep(0.06)
            assert loop.leading
            assert await database.acquire("two", 1) is None
        assert loop.fence() == 1


async def test_children_go_first(database: Database) -> None:
    loop: Loop

    async def remove(name: str) -> Done:
        try:
            current = await database.get("parent", "p", name)
        except NotFound:
            return Done()
        if current.meta.deleted and not await delete_children(database, current, loop.fence()):
            current.meta.finalizers = []
            await database.update(current, fence=loop.fence())
        return Done()

    loop = Loop(database, [Recorder(remove, "parent")], holder="h")
    top = await database.create(Resource("parent", Meta("top", "p")))
    for name in ("left", "right"):
        owner = {"kind": "parent", "name": "top", "uid": top.meta.uid}
        child = await database.create(Resource("parent", Meta(name, "p", owner=owner)))
        owner = {"kind": "parent", "name": name, "uid": child.meta.uid}
        await database.create(Resource("part", Meta(f"{name}-leaf", "p", owner=owner)))
    assert [child.meta.name for child in await children(database, top)] == ["left", "right"]
    async with running(loop):
        await database.delete("parent", "p", "top")

        async def empty() -> bool:
            return not (await database.list(Query())).items

        await until(empty)
    gone = [
        change.resource.meta.name
        async for change in database.changes(0, follow=False)
        if change.type == "delete" and change.resource
    ]
    assert gone[-1] == "top"
    assert gone.index("left-leaf") < gone.index("left")


async def test_submit_to_reconciled_takes_milliseconds(database: Database) -> None:
    reconciled: asyncio.Queue[str] = asyncio.Queue()

    async def step(name: str) -> Done:
        reconciled.put_nowait(name)
        return Done()

    times = []
    async with running(Loop(database, [Recorder(step)], holder="h")) as loop:
        await until(lambda: loop.leading)
        clock = asyncio.get_running_loop().time
        for number in range(30):
            begin = clock()
            await database.create(job(f"n{number}"))
            await reconciled.get()
            times.append(clock() - begin)
    assert sorted(times)[len(times) // 2] < 0.02
