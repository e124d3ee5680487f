"""A resource's log: the bytes of its workload's replica as they were written."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from mlaas.api import documentation
from mlaas.api.auth import still_allowed
from mlaas.api.operations import Operations
from mlaas.api.query import NamePath, ProjectPath
from mlaas.api.watch import Hub, Permission, Selector
from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.engine import Engine
from mlaas.kernel.errors import Invalid, NotFound
from mlaas.kernel.resource import Kind, Resource
from mlaas.kernel.store.base import Query as StoreQuery

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
PAUSE = 0.1
"""Seconds between attempts to read on, while an attempt is awaited."""
_ENDED = frozenset({"Succeeded", "Failed", "Cancelled"})


def router(context: Context, hub: Hub, kind: Kind) -> APIRouter:
    """`.../{name}/logs` of one kind whose resources are workloads or own them."""
    routes = APIRouter(tags=[kind.plural])
    operations = Operations(context)

    @routes.get(
        f"/api/v1/projects/{{project}}/{kind.plural}/{{name}}/logs",
        operation_id=f"get_{kind.name}_logs",
        **documentation.route(
            f"Log of a {kind.name}",
            (200, {"description": "The bytes as written.", "content": {"text/plain": {"schema": {"type": "string"}}}}),
            errors=(404,),
        )
        | {"description": "With `?follow=1` on until its end."},
    )
    async def logs(
        request: Request,
        project: ProjectPath,
        name: NamePath,
        follow: Annotated[bool, Query(include_in_schema=False)] = False,
        offset: Annotated[int, Query(ge=0, lt=1 << 53, description="Bytes to leave out.")] = 0,
        role: Annotated[str | None, Query(max_length=63, description="Of a gang; the first one when left out.")] = None,
        index: Annotated[int, Query(ge=0, lt=1 << 20, description="Of the replica in its role.")] = 0,
    ) -> Response:
        web.check(request, "get", kind.name, project)
        resource = await operations.get(kind, project, name)
        workload = await _workload(context, resource)
        if workload is not None:
            role = _role(workload, role, index)

        async def allowed() -> bool:
            return await still_allowed(context, request, "get", kind.name, project)

        chunks = _permitted(_follow(context, hub, resource, workload, role, index, offset, follow), allowed)
        return StreamingResponse(chunks, media_type="text/plain", headers=HEADERS)

    return routes


async def _permitted(
    chunks: AsyncGenerator[bytes, None], allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """The chunks, as long as the reader may see them."""
    permission = Permission(allowed)
    async with aclosing(chunks):
        async for chunk in chunks:
            if not await permission.holds():
                return
            yield chunk


async def _workload(context: Context, resource: Resource) -> Resource | None:
    """The resource itself if it is one, else the latest that it owns."""
    if resource.kind == "workload":
        return resource
    query = StoreQuery(
        kind="workload",
        projects=frozenset({resource.meta.project}),
        owner=resource.meta.uid,
        order="-created",
        limit=1,
    )
    return next(iter((await context.database.list(query)).items), None)


def _role(workload: Resource, role: str | None, index: int) -> str:
    roles: dict[str, int] = {each.get("name", "main"): each.get("replicas", 1) for each in workload.spec["roles"]}
    chosen = role or next(iter(roles))
    if chosen not in roles:
        raise NotFound(f"There is no role '{chosen[:60]}'.", hint=f"Roles: {', '.join(roles)}.")
    if index >= roles[chosen]:
        raise Invalid(f"The role '{chosen}' has {roles[chosen]} replicas, numbered from 0.", field="index")
    return chosen


def _engine(context: Context, workload: Resource) -> Engine:
    name = workload.spec.get("engine") or (workload.status.get("admission") or {}).get("engine")
    return context.engines.get(str(name), context.engine)


async def _follow(
    context: Context,
    hub: Hub,
    resource: Resource,
    workload: Resource | None,
    role: str | None,
    index: int,
    offset: int,
    follow: bool,
) -> AsyncGenerator[bytes, None]:
    """The log; with `follow` over all attempts, from before the first one until the workload has ended."""
    if workload is None and follow:
        workload = await _appearing(context, hub, resource)
    if workload is None:
        return
    engine, meta = _engine(context, workload), workload.meta
    role = role or _role(workload, None, 0)
    while True:
        # Whether it has ended is asked before reading: what is written before an end is then read in the same round.
        ended = not follow or await _has_ended(context, workload)
        async for chunk in _until_closed(hub, engine.logs(meta.uid, role, index, offset, follow and not ended)):
            offset += len(chunk)
            yield chunk
        if ended or hub.closed.is_set():
            return
        try:
            await asyncio.wait_for(hub.closed.wait(), PAUSE)
        except TimeoutError:
            pass


async def _has_ended(context: Context, workload: Resource) -> bool:
    try:
        now = await context.database.get(workload.kind, workload.meta.project, workload.meta.name)
    except NotFound:
        return True
    return now.phase in _ENDED or now.meta.uid != workload.meta.uid


async def _until_closed(hub: Hub, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What `source` yields until it ends, the platform does, or there is no log (yet)."""
    closed = asyncio.ensure_future(hub.closed.wait())
    try:
        while True:
            chunk = asyncio.ensure_future(anext(source, None))
            try:
                await asyncio.wait({chunk, closed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not chunk.done():
                    chunk.cancel()
                    await asyncio.gather(chunk, return_exceptions=True)
            if chunk.cancelled() or (data := chunk.result()) is None:
                return
            yield data
    except NotFound:
        return
    finally:
        closed.cancel()
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def _appearing(context: Context, hub: Hub, resource: Resource) -> Resource | None:
    """The workload once there is one; None when the resource ends or goes without."""
    meta = resource.meta
    subscription = hub.subscribe(Selector(resource.kind, frozenset({meta.project}), frozenset({meta.name})))
    try:
        while not hub.closed.is_set():
            workload = await _workload(context, resource)
            if workload is not None:
                return workload
            try:
                now = await context.database.get(resource.kind, meta.project, meta.name)
            except NotFound:
                return None
            if now.phase in _ENDED or now.meta.uid != meta.uid:
                return None
            subscription.ready.clear()
            subscription.changes.clear()
            subscription.gone = False
            try:
                await asyncio.wait_for(subscription.ready.wait(), 1.0)
            except TimeoutError:
                pass
    finally:
        hub.subscriptions.discard(subscription)
    return None
