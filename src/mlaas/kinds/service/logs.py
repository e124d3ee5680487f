"""A service's log: what the processes of its models write, the last lines of each, and on with `follow`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanServe
from mlaas.kernel.errors import NotFound, Unauthenticated, Unavailable
from mlaas.kinds.service.documentation import described
from mlaas.kinds.service.spec import KIND

_PAUSE = 0.5
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
Name = Annotated[str, Path(max_length=253)]


def add_routes(routes: APIRouter, context: Context) -> None:
    """`logs` below a service, in the place of the generic route: a service owns no workload."""
    answers = described("Log of a service", None)
    answers["responses"][200]["content"] = {"text/plain": {"schema": {"type": "string"}}}

    @routes.get(
        "/logs",
        operation_id="get_service_logs",
        description="The last lines of each of its processes, with the process before each. With `?follow=1` on until its end.",
        **answers,
    )
    async def logs(
        request: Request,
        project: Name,
        name: Name,
        follow: Annotated[bool, Query(include_in_schema=False)] = False,
        offset: Annotated[int, Query(ge=0, lt=1 << 53, description="Bytes to leave out.")] = 0,
        replica: Annotated[str, Query(max_length=300, description="A process, or a part of its name.")] = "",
    ) -> Response:
        web.check(request, "get", KIND.name, project)
        await there(context, project, name)
        if replica and not follow:
            _known(replica, await _tails(context, project, name))

        lines = _lines(context, project, name, replica, follow, lambda: may_go_on(request, context, project, name))
        return StreamingResponse(_after(lines, offset), media_type="text/plain", headers=_HEADERS)


async def may_go_on(request: Request, context: Context, project: str, name: str) -> bool:
    """Whether a stream about a service goes on: the service is there, and who asked may still see it."""
    header = request.headers.get("authorization", "")
    try:
        await there(context, project, name)
        principal = await context.auth.authenticate(header.partition(" ")[2].strip())
    except (NotFound, Unauthenticated):
        return False
    return principal.projects is None or project in principal.projects


async def there(context: Context, project: str, name: str) -> None:
    """Raises NotFound where there is no such service."""
    try:
        await context.database.get(KIND.name, project, name)
    except NotFound:
        raise NotFound(
            f"There is no service '{name[:80]}' in project '{project[:80]}'.", hint="`mlaas get services` lists them."
        ) from None


async def _lines(
    context: Context, project: str, name: str, replica: str, follow: bool, allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Each line with the process before it; only those of `replica` where it is named."""
    seen: dict[str, int] = {}
    while True:
        for process, tail in sorted((await _tails(context, project, name)).items()):
            total, kept = int(tail["total"]), [*tail["lines"]]
            before = seen.get(process, 0)
            fresh = min(total - before, len(kept)) if total >= before else len(kept)  # fewer: it was started anew
            seen[process] = total
            if fresh and _is(replica, process):
                yield "".join(f"{process}: {line}\n" for line in kept[-fresh:]).encode()
        if not follow:
            return
        await asyncio.sleep(_PAUSE)
        if not await allowed():
            return


def _is(replica: str, process: str) -> bool:
    """Whether `replica` is a process (`iris-1f0c/0`) or a part of its name: the revision or component, its number."""
    return not replica or f"/{replica}/" in f"/{process}/"


def _known(replica: str, tails: dict[str, Any]) -> None:
    """Raises NotFound naming the processes there are."""
    if not any(_is(replica, process) for process in tails):
        here = ", ".join(sorted(tails)) or "none: a compiled model runs in the model server itself"
        raise NotFound(f"The service has no replica '{replica[:80]}'.", hint=f"Its processes: {here}.")


async def _tails(context: Context, project: str, name: str) -> dict[str, Any]:
    engine = context.services.engine if context.services is not None else None
    if not isinstance(engine, CanServe):
        return {}
    try:
        return await engine.tails(project, name)
    except Unavailable:
        return {}


async def _after(chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[bytes]:
    """The chunks without their first `offset` bytes."""
    async for chunk in chunks:
        if offset < len(chunk):
            yield chunk[offset:]
        offset = max(0, offset - len(chunk))
