"""The platform's HTTP application: what every request meets, and all routes."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware import Middleware
from starlette.routing import Route

from mlaas.api import apply, blobs, foreign, health, logs, metrics, problem, resources, schema, series, tokens
from mlaas.api.auth import authenticator
from mlaas.api.query import known_query
from mlaas.api.watch import Hub
from mlaas.kernel.context import Context


def create_app(context: Context, hub: Hub | None = None, loop: Any = None, extra: Sequence[APIRouter] = ()) -> FastAPI:
    """The application over a context. `extra` are the routes that kinds bring, authenticated as all others.

    `hub` is the reader of changes that watches hang on; who passes it runs and closes it.
    """
    hub = hub or Hub(context.database)
    measured = metrics.Metrics()
    heads: list[Route] = []
    app = FastAPI(
        title="ML-AAS",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(problem.Head, own=heads),
            Middleware(metrics.Measured, metrics=measured),
            Middleware(problem.Unexpected),
        ],
    )
    guarded = [Depends(authenticator(context)), Depends(known_query)]
    opened = health.open_router(context)
    app.include_router(opened, dependencies=[Depends(known_query)])
    routers = [
        metrics.router(context, hub, measured, loop),
        health.router(context, loop),
        tokens.router(context),
        apply.router(context),
        blobs.router(context),
        *extra,
        *foreign.routers(context),
    ]
    own = {getattr(route, "path", "") for router in extra for route in router.routes}
    for kind in context.kinds:
        routers += [resources.router(context, hub, kind), series.router(context, hub, kind)]
        # a kind whose resources own no workload brings logs of its own
        if kind.scope == "project" and f"/api/v1/projects/{{project}}/{kind.plural}/{{name}}/logs" not in own:
            routers.append(logs.router(context, hub, kind))
    for router in routers:
        app.include_router(router, dependencies=guarded)
    every = [*app.routes, *(route for router in (opened, *routers) for route in router.routes)]
    heads += [route for route in every if isinstance(route, Route) and route.methods == {"HEAD"}]
    problem.install(app, [route for route in every if isinstance(route, Route)])
    schema.install(app, context.kinds)
    return app


def _version() -> str:
    try:
        return version("mlaas")
    except PackageNotFoundError:  # run from a checkout
        return "0"
