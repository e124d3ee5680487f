"""Metric points and events of a resource: lists that go on, and streams of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from mlaas.api import documentation
from mlaas.api.auth import realm, still_allowed
from mlaas.api.operations import Operations
from mlaas.api.query import NamePath, Watching, in_project, on_platform
from mlaas.api.watch import EVENT_STREAM, HEARTBEAT, Hub
from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.resource import Json, Kind, Resource
from mlaas.kernel.store.base import Point
from mlaas.kernel.store.base import describe as describe_event

POLL = 0.5
"""Seconds between two looks for new points or events of a stream: they are appended in batches, without a revision."""
Rows = list[tuple[int, Json]]
Read = Callable[[int, int], Awaitable[Rows]]

After = Annotated[int, Query(ge=0, lt=1 << 63, description="Only what came after this position (`next`).")]
Limit = Annotated[int, Query(ge=1, le=10_000)]


def describe_point(point: Point) -> Json:
    return {"metric": point.metric, "step": point.step, "time": point.time, "value": point.value}


def router(context: Context, hub: Hub, kind: Kind) -> APIRouter:
    """`.../{name}/metrics` and `.../{name}/events` of one kind."""
    routes = APIRouter(tags=[kind.plural])
    operations = Operations(context)
    scoped = kind.scope == "project"
    item = f"/api/v1/projects/{{project}}/{kind.plural}/{{name}}" if scoped else f"/api/v1/{kind.plural}/{{name}}"
    where = in_project if scoped else on_platform

    async def respond(
        request: Request, resource: Resource, read: Read, after: int, limit: int, w: Watching
    ) -> Response:
        if w.watch:
            project = realm(kind, resource.meta.project, resource.meta.name)

            async def allowed() -> bool:
                return await still_allowed(context, request, "get", kind.name, project)

            begin = after if w.since is None else w.since
            return StreamingResponse(
                _stream(hub, read, begin, allowed), media_type="text/event-stream", headers=EVENT_STREAM
            )
        rows = await read(after, limit)
        return web.answer({"items": [row for _, row in rows], "next": rows[-1][0] if rows else after})

    @routes.get(
        item + "/metrics",
        operation_id=f"get_{kind.name}_metrics",
        **documentation.route(
            f"Metric points of a {kind.name}",
            (200, documentation.json_answer("Points in the order of arrival.", documentation.ref("PointList"))),
            errors=(404,),
        ),
    )
    async def metrics(
        request: Request,
        project: Annotated[str, Depends(where)],
        name: NamePath,
        watching: Annotated[Watching, Depends()],
        metric: Annotated[str | None, Query(max_length=200, description="Only this metric.")] = None,
        after: After = 0,
        limit: Limit = 10_000,
    ) -> Response:
        web.check(request, "get", kind.name, realm(kind, project, name))
        resource = await operations.get(kind, project, name)

        async def read(after: int, limit: int) -> Rows:
            points = await context.database.points(resource.meta.uid, metric, after, limit)
            return [(position, describe_point(point)) for position, point in points]

        return await respond(request, resource, read, after, limit, watching)

    @routes.get(
        item + "/events",
        operation_id=f"get_{kind.name}_events",
        **documentation.route(
            f"Events of a {kind.name}",
            (200, documentation.json_answer("Events, the latest last.", documentation.ref("EventList"))),
            errors=(404,),
        ),
    )
    async def events(
        request: Request,
        project: Annotated[str, Depends(where)],
        name: NamePath,
        watching: Annotated[Watching, Depends()],
        after: After = 0,
        limit: Limit = 1000,
    ) -> Response:
        web.check(request, "get", kind.name, realm(kind, project, name))
        resource = await operations.get(kind, project, name)

        async def read(after: int, limit: int) -> Rows:
            found = await context.database.events(None, resource.meta.uid, after, limit)
            return [(position, describe_event(event)) for position, event in found]

        return await respond(request, resource, read, after, limit, watching)

    return routes


async def _stream(hub: Hub, read: Read, after: int, allowed: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    quiet: float = 0.0
    while not hub.closed.is_set():
        rows: list[tuple[int, Any]] = await read(after, 1000)
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
            if not await allowed():
                return
            yield b": heartbeat\n\n"
