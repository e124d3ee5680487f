"""The reconcile loop: names in, one step at a time, until every resource is as its spec says.

Level-triggered: a lost or doubled hint costs time, never work. What is worked on comes from the store's changes, from
hints, and from a sweep now and then. The loop acts only while it holds the store's lease.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from mlaas.kernel.errors import Compacted, Conflict, Error, Fenced, NotFound
from mlaas.kernel.leadership import Leadership
from mlaas.kernel.resource import Resource
from mlaas.kernel.store.base import Change, Database, Event, Query
from mlaas.kernel.workqueue import WorkQueue

log = logging.getLogger(__name__)

BACKOFF_FIRST = 0.05
BACKOFF_MOST = 60.0
"""Seconds before the first repetition after a failure, and the most between two; doubled at each failure."""
BACKOFF_FLOOR = 1.0
"""A hint cuts a back-off short, but not below this: a failing step that also writes must not spin."""
PAGE = 500


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to do until the resource or a child of it changes, or a hint comes. Who waits for others says Again."""


@dataclass(frozen=True, slots=True)
class Again:
    """Look again in `after` seconds, or when it changes."""

    after: float


class TerminalError(Exception):
    """This step can never succeed as the resource is now: not repeated until the resource changes."""


class Reconciler(Protocol):
    """Makes one step of a resource of its kind towards the spec.

    It reads the resource afresh by its name, and writes with the loop's `fence()`. It may be called at any moment, twice,
    and for a resource that is gone. A class may have a method `settled(resource) -> bool`: such resources are left
    out of sweeps.
    """

    kind: str

    async def reconcile(self, project: str, name: str) -> Done | Again: ...


@dataclass(frozen=True, slots=True)
class Key:
    reconciler: int  # index
    project: str
    name: str


@dataclass(slots=True)
class Counters:
    """What the loop has done since it started."""

    reconciled: int = 0
    failed: int = 0


class Loop:
    """Runs reconcilers over a store. `run` it as a task; cancel the task to stop."""

    def __init__(
        self,
        database: Database,
        reconcilers: Sequence[Reconciler],
        *,
        holder: str,
        ttl: float = 15.0,
        sweep: float = 30.0,
        full_sweep: float = 600.0,
        workers: int = 16,
    ) -> None:
        """`holder` names this platform; one that may be sure that its predecessor of the same name is dead (it holds
        the lock of the data folder) takes over at once. Times are seconds. Every `sweep` the store is compared with
        what steps have read, every `full_sweep` everything is reconciled.
        """
        self._database = database
        self._reconcilers = reconcilers
        self._by_kind: dict[str, list[int]] = defaultdict(list)
        for index, reconciler in enumerate(reconcilers):
            self._by_kind[reconciler.kind].append(index)
        self._leadership = Leadership(database, holder, ttl)
        self._sweep_every, self._full_sweep_every, self._workers = sweep, full_sweep, workers
        self.counters = Counters()
        self._reset()

    @property
    def leading(self) -> bool:
        return self._leadership.certain

    @property
    def depth(self) -> int:
        """How many resources wait for a step, due or not."""
        return len(self._queue)

    def fence(self) -> int | None:
        """The epoch to write under. After a loss it is the old one, whose writes the store refuses."""
        return self._leadership.epoch

    def hint(self, kind: str, project: str, name: str, after: float = 0.0) -> None:
        """This resource may have changed, here or in the engine. Cheap; called in the loop's thread."""
        for index in self._by_kind.get(kind, ()):
            self._add(Key(index, project, name), after)

    async def run(self) -> None:
        """Lead whenever that is possible, until cancelled."""
        try:
            while True:
                await self._leadership.acquire()
                self._reset()
                await self._act()
        finally:
            await self._leadership.release()

    def _reset(self) -> None:
        """Start from nothing: what an earlier leadership knew is out of date."""
        self._queue: WorkQueue[Key] = WorkQueue()
        self._failures: dict[Key, int] = {}
        self._latest: dict[Key, int] = {}  # versions as the changes told them
        self._started: dict[Key, int] = {}  # versions that the latest step has surely read (or more)

    async def _act(self) -> None:
        """Work until the lease is lost, then stop at once: what was under way is repeated by who leads next."""
        holding = asyncio.create_task(self._leadership.hold(), name="lease")
        parts = [
            asyncio.create_task(self._dispatch(), name="loop-dispatch"),
            asyncio.create_task(self._follow(), name="loop-changes"),
            asyncio.create_task(self._sweep_regularly(), name="loop-sweep"),
        ]
        try:
            finished, _ = await asyncio.wait([holding, *parts], return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()  # a part never ends by itself, but for a mistake in it: let it be seen
        finally:
            for task in (holding, *parts):
                task.cancel()
            await asyncio.gather(holding, *parts, return_exceptions=True)

    def _add(self, key: Key, after: float = 0.0) -> None:
        self._queue.add(key, max(after, BACKOFF_FLOOR) if key in self._failures else after)

    # -- what to work on ---------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                since = await self._sweep(full=True)
                async for change in self._database.changes(since):
                    self._see(change)
                return  # the store was closed
            except Compacted:
                log.info("the changes are compacted: reading everything again")
            except Error as error:
                log.warning("the changes cannot be read: %s", error.message)
                await asyncio.sleep(1.0)

    def _see(self, change: Change) -> None:
        resource = change.resource
        if resource is None:
            return
        for index in self._by_kind.get(resource.kind, ()):
            key = Key(index, resource.meta.project, resource.meta.name)
            if change.type == "delete":
                self._latest.pop(key, None)
                self._started.pop(key, None)
                self._add(key)
            elif change.revision > self._started.get(key, 0):  # else a step has read it already: a sweep was faster
                self._latest[key] = change.revision
                self._add(key)
        owner = resource.meta.owner
        if owner:
            self.hint(owner["kind"], resource.meta.project, owner["name"])

    async def _sweep_regularly(self) -> None:
        rounds = max(1, round(self._full_sweep_every / self._sweep_every))
        number = 0
        while True:
            await asyncio.sleep(self._sweep_every)
            number += 1
            try:
                await self._sweep(full=number % rounds == 0)
            except Error as error:
                log.warning("the store cannot be swept: %s", error.message)

    async def _sweep(self, full: bool) -> int:
        """Queue what no step has read in its latest version, or everything; the revision from which to follow the changes."""
        since = await self._database.revision()
        for kind in self._by_kind:
            after: str | None = None
            while True:
                page = await self._database.list(Query(kind, order="created", limit=PAGE, after=after))
                for resource in page.items:
                    self._sweep_one(resource, full)
                after = page.next
                if after is None:
                    break
        return since

    def _sweep_one(self, resource: Resource, full: bool) -> None:
        for index in self._by_kind[resource.kind]:
            settled = getattr(self._reconcilers[index], "settled", None)
            if settled is not None and settled(resource) and not resource.meta.deleted:
                continue
            key = Key(index, resource.meta.project, resource.meta.name)
            version = resource.meta.version
            self._latest[key] = max(version, self._latest.get(key, 0))
            if key in self._failures or (not full and self._started.get(key, 0) >= version):
                continue
            self._queue.add(key)

    # -- working -----------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        free = asyncio.Semaphore(self._workers)
        working: set[asyncio.Task[None]] = set()
        try:
            while True:
                await free.acquire()
                key = await self._queue.get()
                if not self._leadership.certain:
                    self._leadership.lose()
                    return
                task = asyncio.create_task(self._work(key), name=f"reconcile-{key.name}")
                working.add(task)
                task.add_done_callback(working.discard)
                task.add_done_callback(lambda _: free.release())
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        version = self._latest.get(key, 0)
        if version:
            self._started[key] = version
        reconciler = self._reconcilers[key.reconciler]
        try:
            outcome = await reconciler.reconcile(key.project, key.name)
        except Fenced:
            self._leadership.lose()
        except TerminalError as error:
            self.counters.failed += 1
            await self._report(key, str(error), "Failed", error)
            self._failures.pop(key, None)
        except Exception as error:
            await self._retry(key, error)
        else:
            self.counters.reconciled += 1
            self._failures.pop(key, None)
            if isinstance(outcome, Again):
                self._queue.add(key, outcome.after)
        finally:
            self._queue.done(key)

    async def _retry(self, key: Key, error: Exception) -> None:
        self.counters.failed += 1
        number = self._failures.get(key, 0)
        delay = min(BACKOFF_FIRST * 2 ** min(number, 30), BACKOFF_MOST) * random.uniform(0.5, 1.0)
        self._queue.drop(key)  # a hint that came meanwhile must not undercut the back-off
        if isinstance(error, Conflict):  # somebody else wrote: the usual race, not worth a word
            exists = True
        else:
            message = error.message if isinstance(error, Error) else f"{type(error).__name__}: {error}"
            exists = await self._report(key, f"{message} Trying again.", "ReconcileError", error)
        if exists:
            self._failures[key] = number + 1
            self._queue.add(key, delay)
        else:
            self._failures.pop(key, None)

    async def _report(self, key: Key, message: str, reason: str, error: Exception) -> bool:
        """Log the failure and record it as an event of the resource; False when the resource is gone."""
        kind = self._reconcilers[key.reconciler].kind
        expected = isinstance(error, Error | TerminalError)
        log.warning("%s %s/%s: %s", kind, key.project, key.name, message, exc_info=None if expected else error)
        try:
            resource = await self._database.get(kind, key.project, key.name)
        except NotFound:
            return False
        except Error:
            return True
        with suppress(Error):
            await self._database.record(
                Event(resource.meta.uid, key.project, kind, key.name, reason, message, type="Warning")
            )
        return True
