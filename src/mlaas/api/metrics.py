"""Prometheus metrics of the platform: requests, streams, tasks by phase, the store, the loop."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlaas.api import documentation
from mlaas.api.watch import Hub
from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.store.base import Query

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry for each platform, so that two of them in a process (in tests) do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mlaas_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "mlaas_http_request_seconds",
            "Until the answer's head was sent.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("mlaas_http_requests_in_flight", "Streams included.", registry=self.registry)
        self.resources = Gauge("mlaas_resources", "By kind and phase.", ["kind", "phase"], registry=self.registry)
        self.watchers = Gauge("mlaas_watchers", "Open watches.", registry=self.registry)
        self.revision = Gauge("mlaas_store_revision", "The latest revision.", registry=self.registry)
        self.leader = Gauge("mlaas_loop_leader", "1 while this platform leads.", registry=self.registry)
        self.steps = Gauge("mlaas_loop_steps", "Since the start.", ["outcome"], registry=self.registry)
        self.queue = Gauge("mlaas_loop_queue_depth", "Names that wait for a reconciler.", registry=self.registry)

    async def refresh(self, context: Context, hub: Hub, loop: Any) -> None:
        """Read what is not counted as it happens."""
        self.resources.clear()
        for kind in context.kinds:
            for phase, count in (await context.database.count(Query(kind=kind.name))).items():
                self.resources.labels(kind.name, phase or "none").set(count)
        self.watchers.set(len(hub.subscriptions))
        self.revision.set(await context.database.revision())
        if loop is not None:
            self.leader.set(int(loop.leading))
            self.queue.set(loop.depth)
            self.steps.labels("done").set(loop.counters.reconciled)
            self.steps.labels("failed").set(loop.counters.failed)


class Measured:
    """Counts and times every request under its route's path (never the path itself: that would be without bound)."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"].isalpha() and len(scope["method"]) < 10 else "other"
                method = method if route != "none" else "other"
                self.metrics.requests.labels(method, route, message["status"]).inc()
                self.metrics.seconds.labels(method, route).observe(time.perf_counter() - begin)
            await send(message)

        self.metrics.running.inc()
        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.running.dec()


def router(context: Context, hub: Hub, metrics: Metrics, loop: Any) -> APIRouter:
    routes = APIRouter(tags=["platform"])

    @routes.get(
        "/metrics",
        operation_id="get_metrics",
        **documentation.route(
            "Metrics for Prometheus",
            (200, {"description": "Text format 0.0.4.", "content": {"text/plain": {"schema": {"type": "string"}}}}),
        ),
    )
    async def get(request: Request) -> Response:
        web.check(request, "get", "metrics", None)
        await metrics.refresh(context, hub, loop)
        return Response(generate_latest(metrics.registry), media_type=MEDIA_TYPE)

    return routes
