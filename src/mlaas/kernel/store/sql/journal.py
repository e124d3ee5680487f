"""Events, as functions over one open transaction."""

from sqlalchemy import Connection, delete, insert, select

from mlaas.kernel.store.base import Event
from mlaas.kernel.store.sql import schema

_row = schema.events.c


def record(connection: Connection, event: Event, time: str) -> None:
    """A repeat is a new row with a raised count in place of the old one: so it gets a new position."""
    same = (_row.owner == event.owner, _row.reason == event.reason, _row.message == event.message)
    earlier = connection.execute(select(_row.count.label("times"), _row.first_seen).where(*same)).first()
    if earlier is not None:
        connection.execute(delete(schema.events).where(*same))
    connection.execute(
        insert(schema.events).values(
            owner=event.owner,
            project=event.project,
            kind=event.kind,
            name=event.name,
            reason=event.reason,
            message=event.message,
            type=event.type,
            count=event.count + (earlier.times if earlier is not None else 0),
            first_seen=earlier.first_seen if earlier is not None else event.first_seen or time,
            last_seen=event.last_seen or time,
        )
    )


def read(
    connection: Connection, projects: frozenset[str] | None, owner: str | None, after: int, limit: int
) -> list[tuple[int, Event]]:
    # `count` and `index` are methods of every row, hence the mapping.
    statement = select(schema.events).where(_row.id > after)
    if projects is not None:
        statement = statement.where(_row.project.in_(sorted(projects)))
    if owner is not None:
        statement = statement.where(_row.owner == owner)
    return [
        (
            row.id,
            Event(
                owner=row.owner,
                project=row.project,
                kind=row.kind,
                name=row.name,
                reason=row.reason,
                message=row.message,
                type=row.type,
                count=row._mapping["count"],
                first_seen=row.first_seen,
                last_seen=row.last_seen,
            ),
        )
        for row in connection.execute(statement.order_by(_row.id).limit(limit))
    ]


def trim(connection: Connection, before: str) -> None:
    """Drop events last seen before `before`, a time as `resource.now` writes it."""
    connection.execute(delete(schema.events).where(_row.last_seen < before))
