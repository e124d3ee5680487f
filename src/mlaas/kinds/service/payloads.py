"""The payload events of a service that logs to `bus://`, as they come."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import StreamingResponse

from mlaas.kernel import web
from mlaas.kernel.bus.base import Subscription
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Unavailable
from mlaas.kernel.events import CloudEvent
from mlaas.kinds.service.logs import may_go_on, there
from mlaas.kinds.service.spec import KIND

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_HEARTBEAT = 15.0
_PREFIX = "org.kubeflow.serving.inference"
Name = Annotated[str, Path(max_length=253)]


def add_routes(routes: APIRouter, context: Context) -> None:
    """`payloads` below a service: server-sent events, each an event in the JSON format of CloudEvents."""

    @routes.get("/payloads", include_in_schema=False)
    async def payloads(request: Request, project: Name, name: Name) -> Response:
        web.check(request, "get", KIND.name, project)
        await there(context, project, name)
        if context.bus is None:
            raise Unavailable("This platform has no bus.")
        subscription = await context.bus.subscribe(_PREFIX)
        events = _stream(subscription, project, name, lambda: may_go_on(request, context, project, name))
        return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)


async def _stream(
    subscription: Subscription, project: str, name: str, allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """The events of one service; a comment now and then, so that a client that is gone is noticed. What a client is too slow for
    is left out, and a comment says how much."""
    events = aiter(subscription)
    waiting: asyncio.Task[CloudEvent] | None = None
    asked, lost = time.monotonic(), 0
    try:
        yield b": listening\n\n"
        while True:
            waiting = waiting or asyncio.ensure_future(_next(events))
            done, _ = await asyncio.wait([waiting], timeout=_HEARTBEAT)
            if time.monotonic() - asked >= _HEARTBEAT:
                asked = time.monotonic()
                if not await allowed():
                    return
                yield b": still here\n\n"
            if not done:
                continue
            try:
                event = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            if subscription.lost > lost:
                yield f": {subscription.lost - lost} events were lost\n\n".encode()
                lost = subscription.lost
            if (event.extensions.get("namespace"), event.extensions.get("inferenceservicename")) == (project, name):
                yield b"data: " + event.to_json() + b"\n\n"
    finally:
        if waiting is not None:
            waiting.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await waiting
        await subscription.close()


async def _next(events: AsyncIterator[CloudEvent]) -> CloudEvent:
    return await anext(events)
