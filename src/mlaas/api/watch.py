"""Watching resources: one reader of the store's changes fans out to all watchers through bounded queues.

Server-sent events (WHATWG HTML, section 9.2): `event: put|delete|bookmark|gone`, `id:` the revision, `data:` the resource.
A watcher that is too slow gets `gone` and lists again; so does one that resumes from before the horizon.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import orjson

from mlaas.kernel.errors import Compacted, Error
from mlaas.kernel.resource import Resource
from mlaas.kernel.store.base import Change, Database, Query

HEARTBEAT = 15.0
EVENT_STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers of every stream: no proxy may hold it back."""
QUEUE = 2048
"""Changes that a watcher may lag behind."""
log = logging.getLogger("mlaas.api")


class Permission:
    """Whether a stream may go on: asked now and then, however busy the stream is. A token may be revoked, or expire."""

    def __init__(self, allowed: Callable[[], Awaitable[bool]]) -> None:
        self._allowed = allowed
        self._asked = time.monotonic()

    async def holds(self) -> bool:
        moment = time.monotonic()
        if moment - self._asked < HEARTBEAT:
            return True
        self._asked = moment
        return await self._allowed()


@dataclass(frozen=True, slots=True)
class Selector:
    """What a watcher wants. `projects` None: all of them; it is the only part that is a matter of permission."""

    kind: str
    projects: frozenset[str] | None = None
    names: frozenset[str] | None = None
    prefix: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    owner: str | None = None
    phases: frozenset[str] = frozenset()

    def concerns(self, resource: Resource) -> bool:
        """What cannot change in the life of a resource."""
        meta = resource.meta
        return (
            resource.kind == self.kind
            and (self.projects is None or meta.project in self.projects)
            and (self.names is None or meta.name in self.names)
            and meta.name.startswith(self.prefix)
        )

    def holds(self, resource: Resource) -> bool:
        """What can change: a resource that does not match any more is a `delete` for the watcher."""
        meta = resource.meta
        return (
            (self.owner is None or (meta.owner or {}).get("uid") == self.owner)
            and (not self.phases or resource.phase in self.phases)
            and all(meta.labels.get(key) == value for key, value in self.labels.items())
        )

    def query(self) -> Query:
        return Query(
            kind=self.kind,
            projects=self.projects,
            prefix=next(iter(self.names)) if self.names and len(self.names) == 1 else self.prefix,
            labels=self.labels,
            owner=self.owner,
            phases=self.phases,
        )


class Subscription:
    """One watcher's queue. `gone` once it overflowed or the reader lost its place."""

    def __init__(self, selector: Selector) -> None:
        self.selector = selector
        self.changes: deque[Change] = deque()
        self.ready = asyncio.Event()
        self.gone = False

    def offer(self, change: Change) -> None:
        if self.gone or change.resource is None or not self.selector.concerns(change.resource):
            return
        if len(self.changes) >= QUEUE:
            self.drop()
            return
        self.changes.append(change)
        self.ready.set()

    def drop(self) -> None:
        self.gone = True
        self.changes.clear()
        self.ready.set()


class Hub:
    """The one reader. `run` it as a task; `close` ends all streams."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.position = 0
        self.started = asyncio.Event()
        self.closed = asyncio.Event()
        self.subscriptions: set[Subscription] = set()

    async def run(self) -> None:
        while not self.closed.is_set():
            try:
                self.position = await self.database.revision()
                self._drop_all()  # what happened while nobody read is not known
                self.started.set()
                async for change in self.database.changes(self.position):
                    self.position = change.revision
                    for subscription in list(self.subscriptions):
                        subscription.offer(change)
            except Error as error:
                log.warning("watch: reading changes failed: %s", error.message)
                await asyncio.sleep(0.5)
            else:
                return  # the store is closed

    def subscribe(self, selector: Selector) -> Subscription:
        subscription = Subscription(selector)
        self.subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        self.closed.set()
        for subscription in self.subscriptions:
            subscription.ready.set()

    def _drop_all(self) -> None:
        for subscription in self.subscriptions:
            subscription.drop()


async def stream(
    hub: Hub, selector: Selector, since: int | None, allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """The events of one watcher. Without `since` it begins with what is there, oldest change first, so that the `id` of
    each event is a place to resume from. `allowed` is asked at each heartbeat: a revoked token ends the stream."""
    permission = Permission(allowed)
    subscription = hub.subscribe(selector)
    shown: set[str] | None = set() if since is None else None  # uids that the watcher has; None: not known
    try:
        try:
            if since is None:
                page = await hub.database.list(selector.query())
                reached = page.revision
                for resource in sorted(page.items, key=lambda item: item.meta.version):
                    if selector.concerns(resource):
                        assert shown is not None
                        shown.add(resource.meta.uid)
                        yield _frame("put", resource.meta.version, resource)
            else:
                reached = since
                async for change in hub.database.changes(since, follow=False):
                    reached = change.revision
                    for frame in _frames(change, selector, shown):
                        yield frame
        except Compacted as error:
            yield _gone(error.message)
            return
        yield _bookmark(reached)
        while not hub.closed.is_set():
            while subscription.changes and not subscription.gone:
                if not await permission.holds():
                    yield FORBIDDEN
                    return
                change = subscription.changes.popleft()
                if change.revision > reached:
                    reached = change.revision
                    for frame in _frames(change, selector, shown):
                        yield frame
            if subscription.gone:
                yield _gone("You are too slow, or the platform lost its place.")
                return
            subscription.ready.clear()
            try:
                await asyncio.wait_for(subscription.ready.wait(), HEARTBEAT)
            except TimeoutError:
                if not await permission.holds():
                    yield FORBIDDEN
                    return
                # All up to the hub's position has been offered, and the queue is empty.
                if hub.position > reached and not subscription.changes:
                    reached = hub.position
                    yield _bookmark(reached)
                yield b": heartbeat\n\n"
    finally:
        hub.subscriptions.discard(subscription)


def _frames(change: Change, selector: Selector, shown: set[str] | None) -> list[bytes]:
    resource = change.resource
    if resource is None or not selector.concerns(resource):
        return []
    uid = resource.meta.uid
    if change.type == "put" and selector.holds(resource):
        if shown is not None:
            shown.add(uid)
        return [_frame("put", change.revision, resource)]
    if shown is not None:
        if uid not in shown:
            return []
        shown.discard(uid)
    elif change.type == "delete" and not selector.holds(resource):
        return []
    return [_frame("delete", change.revision, resource)]


def _frame(event: str, revision: int, resource: Resource) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (revision, event.encode(), orjson.dumps(resource.to_json()))


def _bookmark(revision: int) -> bytes:
    return b'id: %d\nevent: bookmark\ndata: {"revision":%d}\n\n' % (revision, revision)


def _gone(
    message: str, code: str = "compacted", hint: str = "List again, and watch from the list's revision."
) -> bytes:
    return b"event: gone\ndata: %s\n\n" % orjson.dumps({"code": code, "detail": message, "hint": hint})


FORBIDDEN = _gone(
    "The token of this stream has expired, was revoked, or no longer reaches so far.",
    "unauthenticated",
    "Ask again with a token that is valid.",
)
"""The last event of a stream whose reader may no longer see it."""
