"""Metric points and events of a resource: lists that go on, and streams of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from mlaas.api import documentation
from mlaas.api.auth import realm, still_allowed
from mlaas.api.operations import Operations
from mlaas.api.query import NamePath, Watching, in_project, on_platform
from mlaas.api.watch import EVENT_STREAM, FORBIDDEN, HEARTBEAT, Hub, Permission
from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.resource import Json, Kind
from mlaas.kernel.store.base import Point
from mlaas.kernel.store.base import describe as describe_event

POLL = 0.5
"""Seconds between two looks for new points or events of a stream: they are appended in batches, without a revision."""
Rows = list[tuple[int, Json]]
Read = Callable[[str, int, int], Awaitable[Rows]]
"""(uid, after, limit) -> the rows behind the position `after`, each with its own position."""

After = Annotated[int, Query(ge=0, lt=1 << 63, description="Only what came after this position (`next`).")]
Metric = Annotated[str | None, Query(max_length=200, description="Only this metric.")]
Limit = Annotated[int, Query(ge=1, le=10_000)]


def describe_point(point: Point) -> Json:
    return {"metric": point.metric, "step": point.step, "time": point.time, "value": point.value}


@dataclass(frozen=True, slots=True)
class Series:
    """One series that every resource has, at `.../{name}/{segment}`. `reading` is the dependency that gives its `Read`; its
    query parameters are the route's."""

    segment: str
    summary: str
    answer: str
    schema: str
    page: int
    reading: Callable[..., Read]


def router(context: Context, hub: Hub, kind: Kind) -> APIRouter:
    """`.../{name}/metrics` and `.../{name}/events` of one kind."""
    routes = APIRouter(tags=[kind.plural])

    def points(metric: Metric = None) -> Read:
        async def read(uid: str, after: int, limit: int) -> Rows:
            found = await context.database.points(uid, metric, after, limit)
            return [(position, describe_point(point)) for position, point in found]

        return read

    def events() -> Read:
        async def read(uid: str, after: int, limit: int) -> Rows:
            found = await context.database.events(None, uid, after, limit)
            return [(position, describe_event(event)) for position, event in found]

        return read

    for series in (
        Series("metrics", "Metric points", "Points in the order of arrival.", "PointList", 10_000, points),
        Series("events", "Events", "Events, the latest last.", "EventList", 1000, events),
    ):
        _add(routes, context, hub, kind, series)
    return routes


def _add(routes: APIRouter, context: Context, hub: Hub, kind: Kind, series: Series) -> None:
    """The route of one series: a list that goes on, or with `?watch=1` a stream."""
    operations = Operations(context)
    scoped = kind.scope == "project"
    item = f"/api/v1/projects/{{project}}/{kind.plural}/{{name}}" if scoped else f"/api/v1/{kind.plural}/{{name}}"

    @routes.get(
        f"{item}/{series.segment}",
        operation_id=f"get_{kind.name}_{series.segment}",
        **documentation.route(
            f"{series.summary} of a {kind.name}",
            (200, documentation.json_answer(series.answer, documentation.ref(series.schema))),
            errors=(404,),
        ),
    )
    async def rows(
        request: Request,
        project: Annotated[str, Depends(in_project if scoped else on_platform)],
        name: NamePath,
        watching: Annotated[Watching, Depends()],
        read: Annotated[Read, Depends(series.reading)],
        after: After = 0,
        limit: Limit = series.page,
    ) -> Response:
        where = realm(kind, project, name)
        web.check(request, "get", kind.name, where)
        uid = (await operations.get(kind, project, name)).meta.uid
        if not watching.watch:
            found = await read(uid, after, limit)
            return web.answer({"items": [row for _, row in found], "next": found[-1][0] if found else after})

        async def allowed() -> bool:
            return await still_allowed(context, request, "get", kind.name, where)

        begin = after if watching.since is None else watching.since
        return StreamingResponse(
            _stream(hub, partial(read, uid), begin, allowed), media_type="text/event-stream", headers=EVENT_STREAM
        )


async def _stream(
    hub: Hub, read: Callable[[int, int], Awaitable[Rows]], after: int, allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    permission = Permission(allowed)
    quiet: float = 0.0
    while not hub.closed.is_set():
        rows: list[tuple[int, Any]] = await read(after, 1000)
        if not await permission.holds():
            yield FORBIDDEN
            return
        for position, row in rows:
            after = position
            yield b"id: %d\nevent: put\ndata: %s\n\n" % (position, orjson.dumps(row))
        if rows:
            quiet = 0.0
            continue
        try:
            await asyncio.wait_for(hub.closed.wait(), POLL)
        except TimeoutError:
            quiet += POLL
        if quiet >= HEARTBEAT:
            quiet = 0.0
            yield b": heartbeat\n\n"
