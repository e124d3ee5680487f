"""Routes of services beside the generic ones: promote, roll back, and the gateway to their answers."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from starlette.websockets import WebSocket

from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanServe
from mlaas.kernel.errors import Conflict, Forbidden, Invalid, Unavailable
from mlaas.kernel.gateway import Upstream
from mlaas.kernel.resource import Json, Resource
from mlaas.kinds.service import logs, payloads, tokens
from mlaas.kinds.service.documentation import RESOURCE, described
from mlaas.kinds.service.references import find
from mlaas.kinds.service.spec import KIND

Name = Annotated[str, Path(max_length=253)]
_ATTEMPTS = 5
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def router(context: Context) -> APIRouter:
    """All of them; who asks was authenticated before."""
    routes = APIRouter(prefix="/api/v1/projects/{project}/services/{name}", tags=["services"])

    @routes.post("/promote", operation_id="promote_service", **described("Give the canary all traffic", RESOURCE))
    async def promote(request: Request, project: Name, name: Name) -> Response:
        web.check(request, "update", KIND.name, project)
        wanted = await _canary_of(request)
        service = await _change(context, project, name, lambda found: _promoted(found, wanted))
        return web.answer(service.to_json(), 200, web.etag(service))

    @routes.post("/rollback", operation_id="rollback_service", **described("Serve an earlier predictor", RESOURCE))
    async def rollback(request: Request, project: Name, name: Name) -> Response:
        web.check(request, "update", KIND.name, project)
        service = await _change(context, project, name, _rolled_back)
        return web.answer(service.to_json(), 200, web.etag(service))

    tokens.add_routes(routes, context)
    logs.add_routes(routes, context)
    payloads.add_routes(routes, context)

    @routes.api_route(
        "/proxy/{path:path}", methods=_METHODS, include_in_schema=False, openapi_extra={"x-any-query": True}
    )
    async def proxy(request: Request, project: Name, name: Name, path: str) -> Response:
        web.check(request, "get", KIND.name, project, name)
        return await context.gateway.forward(request, await _behind(context, project, name, path), path)

    @routes.websocket("/proxy/{path:path}")
    async def proxy_websocket(socket: WebSocket, project: Name, name: Name, path: str) -> None:
        web.check(socket, "get", KIND.name, project, name)
        await context.gateway.websocket(socket, await _behind(context, project, name, path), path)

    return routes


async def _canary_of(request: Request) -> str:
    """The canary's name in the body, if there is one. Raises Invalid."""
    if not await request.body():
        return ""
    document = await web.document(request)
    if not isinstance(document, dict) or set(document) - {"canary"} or not isinstance(document.get("canary", ""), str):
        raise Invalid('The body is empty, or {"canary": NAME}.', field="body")
    return str(document.get("canary", ""))


async def _change(context: Context, project: str, name: str, change: Any) -> Resource:
    """Rewrite the spec, whoever else writes meanwhile. Raises NotFound and what `change` raises."""
    for _ in range(_ATTEMPTS):
        service = await find(context, project, name)
        service.spec = change(service)
        try:
            updated = await context.database.update(service)
        except Conflict:
            continue
        context.hint(KIND.name, project, name)
        return updated
    raise Conflict(f"The service '{name}' keeps changing.", hint="Try again.")


def _promoted(service: Resource, wanted: str) -> Json:
    """The spec with a canary as the predictor: the latest one, or the named one."""
    spec = dict(service.spec)
    rollout = dict(spec.get("rollout") or {})
    canaries = list(rollout.get("canary") or [])
    if canaries:
        chosen = [canary for canary in canaries if canary["name"] == (wanted or canaries[0]["name"])]
        if not chosen or (not wanted and len(canaries) > 1):
            names = ", ".join(canary["name"] for canary in canaries)
            raise Invalid("Say which canary is promoted.", field="canary", hint=f"One of {names}.")
        rollout["canary"] = [canary for canary in canaries if canary is not chosen[0]]
        return {**spec, "predictor": chosen[0]["predictor"], "rollout": rollout}
    if rollout.get("canary_traffic_percent") is None:
        raise Conflict(f"The service '{service.meta.name}' has no canary to promote.", field="rollout")
    rollout.pop("canary_traffic_percent")
    return {**spec, "rollout": rollout}


def _rolled_back(service: Resource) -> Json:
    """The spec with the predictor that was served before the latest one."""
    spec, status = dict(service.spec), service.status
    revisions = status.get("revisions") or []
    earlier = [each for each in revisions if each["revision"] != status.get("latest")]
    stable = (status.get("stable") or {}).get("revision")
    chosen = next((each for each in earlier if each["revision"] == stable), earlier[-1] if earlier else None)
    if chosen is None:
        raise Conflict(f"The service '{service.meta.name}' has no earlier predictor.", field="predictor")
    rollout = {key: value for key, value in (spec.get("rollout") or {}).items() if key != "canary_traffic_percent"}
    return {**spec, "predictor": chosen["predictor"], "rollout": rollout}


async def _behind(context: Context, project: str, name: str, path: str) -> Upstream:
    """Where a service's requests go. Raises NotFound, Forbidden for a path that is another model's, Unavailable where nothing
    serves."""
    await find(context, project, name)
    if not _belongs(path, name):
        raise Forbidden(
            f"'{path[:200]}' is no route of the service '{name}'.",
            field="path",
            hint=f"For example v1/models/{name}:predict or v2/models/{name}/infer.",
        )
    fleet = context.services
    engine = fleet.engine
    if not isinstance(engine, CanServe):
        raise Unavailable("No engine here serves.")
    headers = {"authorization": f"Bearer {fleet.token}", "mlaas-project": project}
    return Upstream(engine.addresses()["http"], headers, fleet.problem)


_OPEN = frozenset(("v2", "v2/", "v2/health/live", "v2/health/ready"))
"""What clients ask any server, which tells nothing of its models."""


def _belongs(path: str, name: str) -> bool:
    """Whether a path of the inference port addresses this model, and nothing else."""
    if path in _OPEN:
        return True
    if ".." in path.split("/"):
        return False
    for prefix in (f"v1/models/{name}", f"v2/models/{name}"):
        rest = path.removeprefix(prefix)
        if rest != path and (not rest or rest[0] in ":/"):
            return True
    return False
