"""The store on SQL: `Database` over one writer and several readers. What each operation does lies in the modules beside."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, delete, exists, insert, select, text, update

from mlaas.kernel.errors import Compacted, Unavailable
from mlaas.kernel.resource import Kinds, Resource, check_name, now
from mlaas.kernel.store.base import Change, Database, Event, Lease, Page, Point, Query, Token
from mlaas.kernel.store.sql import journal, leases, listing, resources, schema, series, tokens
from mlaas.kernel.store.sql.connections import Readers, T, Writer, connect
from mlaas.kernel.store.sql.feed import Feed

BATCH = 500
"""Changes read, or rows forgotten, in one transaction: short ones let the others through."""

# Inside the class `list` is the operation.
Changes = list[Change]
Points = list[Point]
NumberedPoints = list[tuple[int, Point]]
NumberedEvents = list[tuple[int, Event]]
AllTokens = list[Token]


class SqlDatabase(Database):
    """All of the store in one SQLite file, which is made when it is not there. For one event loop."""

    def __init__(self, path: Path, kinds: Kinds) -> None:
        """Opens the file. Raises Unavailable when it cannot be, or is of a newer platform."""
        self._kinds = kinds
        where = f"the database '{path}'"
        self._writer = Writer(connect(path, "BEGIN IMMEDIATE"), where)
        self._readers = Readers(connect(path, "BEGIN"), where)
        self._feed = Feed(self.revision)

    async def prepare(self) -> None:
        """Make or check the tables."""
        await self._writer.run(_prepare)

    async def close(self) -> None:
        await self._feed.close()
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self._writer.close)  # last, so that closing it folds the WAL into the file

    async def create(self, resource: Resource, *, fence: int | None = None) -> Resource:
        kind = self._kinds.get(resource.kind)
        check_name(resource.meta.name)
        fresh = deepcopy(resource)
        fresh.schema_version = kind.schema_version
        meta = fresh.meta
        meta.uid, meta.created, meta.version, meta.generation, meta.deleted = str(uuid.uuid4()), now(), 0, 1, None
        meta.finalizers += [name for name in kind.finalizers if name not in meta.finalizers]
        return await self._write(lambda connection: resources.create(connection, fresh, fence))

    async def get(self, kind: str, project: str, name: str) -> Resource:
        return await self._readers.run(lambda connection: resources.get(connection, self._kinds, kind, project, name))

    async def list(self, query: Query) -> Page:
        return await self._readers.run(lambda connection: listing.page(connection, self._kinds, query))

    async def count(self, query: Query) -> dict[str, int]:
        return await self._readers.run(lambda connection: listing.count(connection, query))

    async def update(self, resource: Resource, *, fence: int | None = None) -> Resource:
        fresh = deepcopy(resource)
        return await self._write(lambda connection: resources.replace(connection, self._kinds, fresh, fence))

    async def delete(
        self, kind: str, project: str, name: str, *, version: int | None = None, fence: int | None = None
    ) -> Resource | None:
        key, when = (kind, project, name), now()
        return await self._write(
            lambda connection: resources.mark_deleted(connection, self._kinds, key, version, fence, when)
        )

    async def changes(self, since: int, *, follow: bool = True) -> AsyncIterator[Change]:
        follower = self._feed.follow() if follow else None
        told = -1  # the last bookmark
        try:
            while not self._feed.closed:
                if follower is not None:
                    follower.clear()  # before reading: what comes while it reads sets it again
                batch, latest = await self._readers.run(partial(self._changes, since))
                for change in batch:
                    yield change
                    since = change.revision
                if len(batch) == BATCH:
                    continue
                if not batch:
                    since = max(since, latest)
                if since != told:
                    told = since
                    yield Change("bookmark", since)
                if follower is None:
                    return
                await follower.wait()
        finally:
            if follower is not None:
                self._feed.leave(follower)

    async def acquire(self, holder: str, ttl: float) -> Lease | None:
        return await self._writer.run(lambda connection: leases.acquire(connection, holder, ttl, time.time()))

    async def renew(self, lease: Lease) -> bool:
        return await self._writer.run(lambda connection: leases.renew(connection, lease, time.time()))

    async def release(self, lease: Lease) -> None:
        await self._writer.run(lambda connection: leases.release(connection, lease))

    async def append(self, points: Points) -> None:
        await self._writer.run(lambda connection: series.append(connection, points))

    async def points(
        self, owner: str, metric: str | None = None, after: int = 0, limit: int = 10_000
    ) -> NumberedPoints:
        return await self._readers.run(lambda connection: series.read(connection, owner, metric, after, limit))

    async def record(self, event: Event) -> None:
        moment = now()
        await self._writer.run(lambda connection: journal.record(connection, event, moment))

    async def events(
        self, projects: frozenset[str] | None = None, owner: str | None = None, after: int = 0, limit: int = 1000
    ) -> NumberedEvents:
        return await self._readers.run(lambda connection: journal.read(connection, projects, owner, after, limit))

    async def add_token(self, token: Token) -> None:
        await self._writer.run(lambda connection: tokens.add(connection, token))

    async def find_token(self, digest: str) -> Token | None:
        return await self._readers.run(lambda connection: tokens.find(connection, digest))

    async def tokens(self) -> AllTokens:
        return await self._readers.run(tokens.read)

    async def prolong_token(self, digest: str, expires: float) -> Token:
        return await self._writer.run(lambda connection: tokens.prolong(connection, digest, expires))

    async def remove_token(self, name: str) -> None:
        await self._writer.run(lambda connection: tokens.remove(connection, name))

    async def compact(self, before: int) -> None:
        before = await self._writer.run(lambda connection: _raise_horizon(connection, before))
        while await self._writer.run(lambda connection: _forget(connection, before)):
            pass

    async def trim(self, *, points_age: float, points_per_owner: int, events_age: float) -> None:
        moment = time.time()
        await self._writer.run(lambda connection: series.trim(connection, moment - points_age, points_per_owner))
        oldest = datetime.fromtimestamp(moment - events_age, UTC).isoformat(timespec="milliseconds")
        await self._writer.run(lambda connection: journal.trim(connection, oldest.replace("+00:00", "Z")))

    async def revision(self) -> int:
        return await self._readers.run(resources.current_revision)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        result = await self._writer.run(work)
        self._feed.wake()
        return result

    def _changes(self, since: int, connection: Connection) -> tuple[Changes, int]:
        oldest = resources.horizon(connection)
        changes, latest = resources.read_changes(connection, self._kinds, since, BATCH)
        if since < oldest or since > latest:
            raise Compacted(
                f"Changes are kept from revision {oldest} to {latest}, not since {since}.",
                hint="List again, and follow the changes since the list's revision.",
            )
        return changes, latest


def _prepare(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    fact = schema.facts.c
    layout = connection.scalar(select(fact.value).where(fact.name == "layout"))
    if layout is None:
        connection.execute(
            insert(schema.facts), [{"name": "layout", "value": schema.VERSION}, {"name": "horizon", "value": 0}]
        )
    elif layout > schema.VERSION:
        raise Unavailable(
            f"The database has layout {layout}; this platform knows layouts up to {schema.VERSION}.",
            hint="It was written by a newer version of mlaas: install that one.",
        )
    elif layout < schema.VERSION:
        _migrate(connection, layout)


def _migrate(connection: Connection, layout: int) -> None:
    """Bring an older layout up to date: new tables are there already, new columns are added."""
    for column in (column for since, columns in schema.ADDED.items() if since > layout for column in columns):
        kind = column.type.compile(connection.dialect)
        connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}"))
    connection.execute(update(schema.facts).where(schema.facts.c.name == "layout").values(value=schema.VERSION))


def _raise_horizon(connection: Connection, before: int) -> int:
    """The horizon, moved up to `before` (at most to the latest revision). It never moves down."""
    target = max(min(before, resources.current_revision(connection)), resources.horizon(connection))
    connection.execute(update(schema.facts).where(schema.facts.c.name == "horizon").values(value=target))
    return target


def _forget(connection: Connection, before: int) -> bool:
    """Remove some rows at or below `before` that no resource stands on; True while there may be more."""
    log, current = schema.revisions.c, schema.resources.c
    superseded = select(log.id).where(log.id <= before, ~exists().where(current.revision == log.id)).limit(BATCH)
    return connection.execute(delete(schema.revisions).where(log.id.in_(superseded))).rowcount == BATCH
