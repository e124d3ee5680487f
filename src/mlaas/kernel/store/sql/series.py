"""Metric points, as functions over one open transaction."""

import math

from sqlalchemy import Connection, delete, func, insert, select

from mlaas.kernel.store.base import Point
from mlaas.kernel.store.sql import schema

_row = schema.points.c


def append(connection: Connection, points: list[Point]) -> None:
    rows = [
        {
            "owner": point.owner,
            "metric": point.metric,
            "step": point.step,
            "time": point.time,
            "value": None if math.isnan(point.value) else point.value,
        }
        for point in points
    ]
    if rows:
        connection.execute(insert(schema.points), rows)


def read(connection: Connection, owner: str, metric: str | None, after: int, limit: int) -> list[tuple[int, Point]]:
    statement = select(schema.points).where(_row.owner == owner, _row.id > after)
    if metric is not None:
        statement = statement.where(_row.metric == metric)
    return [
        (row.id, Point(row.owner, row.metric, row.step, row.time, math.nan if row.value is None else row.value))
        for row in connection.execute(statement.order_by(_row.id).limit(limit))
    ]


def trim(connection: Connection, before: float, per_owner: int) -> None:
    """Drop points from before the time `before`, and all but the last `per_owner` of each owner."""
    connection.execute(delete(schema.points).where(_row.time < before))
    crowded = select(_row.owner).group_by(_row.owner).having(func.count() > per_owner)
    for (owner,) in connection.execute(crowded).all():
        newest_dropped = connection.scalar(
            select(_row.id).where(_row.owner == owner).order_by(_row.id.desc()).offset(per_owner).limit(1)
        )
        connection.execute(delete(schema.points).where(_row.owner == owner, _row.id <= newest_dropped))
