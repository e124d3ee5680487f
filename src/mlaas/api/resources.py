"""The generic routes: the same for every kind of the registry."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import StreamingResponse

from mlaas.api import documentation, envelope, foreign, watch
from mlaas.api.auth import realm, still_allowed
from mlaas.api.operations import Operations
from mlaas.api.query import IfMatch, Listing, NamePath, Watching, in_project, on_platform, version_of
from mlaas.api.watch import EVENT_STREAM, Hub, Selector
from mlaas.interop import registry
from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.errors import PreconditionRequired
from mlaas.kernel.resource import Kind, Resource


def router(context: Context, hub: Hub, kind: Kind) -> APIRouter:
    """All generic routes of one kind."""
    routes = APIRouter(tags=[kind.plural])
    operations = Operations(context)
    noun, many = kind.name, kind.plural
    scoped = kind.scope == "project"
    collection = f"/api/v1/projects/{{project}}/{many}" if scoped else f"/api/v1/{many}"
    item = collection + "/{name}"
    where = in_project if scoped else on_platform
    describe = documentation.of(kind)

    def stream(request: Request, selector: Selector, since: int | None, project: str | None) -> Response:
        async def allowed() -> bool:
            return await still_allowed(context, request, "watch", noun, project)

        events = watch.stream(hub, selector, since, allowed)
        return StreamingResponse(events, media_type="text/event-stream", headers=EVENT_STREAM)

    async def listed(
        request: Request, listing: Listing, watching: Watching, projects: frozenset[str] | None, project: str | None
    ) -> Response:
        # Of the projects themselves, one sees one's own.
        names = web.principal(request).projects if noun == "project" else None
        if watching.watch:
            return stream(request, listing.selector(kind, projects, names), watching.since, project)
        page = await context.database.list(listing.query(kind, projects))
        items = [each.to_json() for each in page.items if names is None or each.meta.name in names]
        return web.answer({"items": items, "revision": page.revision, "next": page.next})

    @routes.get(collection, operation_id=f"list_{many}", **describe.list)
    async def list_(
        request: Request,
        project: Annotated[str, Depends(where)],
        listing: Annotated[Listing, Depends()],
        watching: Annotated[Watching, Depends()],
    ) -> Response:
        web.check(request, "list", noun, project)
        if scoped:
            await operations.check_project(project)
        return await listed(request, listing, watching, frozenset({project}), project)

    if scoped:

        @routes.get(f"/api/v1/projects/-/{many}", operation_id=f"list_all_{many}", **describe.list_all)
        async def list_all(
            request: Request, listing: Annotated[Listing, Depends()], watching: Annotated[Watching, Depends()]
        ) -> Response:
            web.check(request, "list", noun, None)
            return await listed(request, listing, watching, web.principal(request).projects, None)

        routes.routes.reverse()  # the path with `-` before the one with a variable

    @routes.get(item, operation_id=f"get_{noun}", **describe.get)
    async def get(
        request: Request,
        project: Annotated[str, Depends(where)],
        name: NamePath,
        watching: Annotated[Watching, Depends()],
    ) -> Response:
        web.check(request, "get", noun, realm(kind, project, name))
        if watching.watch:
            selector = Selector(noun, frozenset({project}), frozenset({name}))
            return stream(request, selector, watching.since, project)
        return represent(await operations.get(kind, project, name))

    @routes.delete(item, operation_id=f"delete_{noun}", **describe.delete)
    async def delete(
        request: Request, project: Annotated[str, Depends(where)], name: NamePath, if_match: IfMatch = None
    ) -> Response:
        web.check(request, "delete", noun, realm(kind, project, name))
        stored, gone = await operations.delete(kind, project, name, version_of(if_match))
        return represent(stored, 200 if gone else 202)

    if not kind.creatable:
        return routes

    @routes.post(collection, operation_id=f"create_{noun}", **describe.create)
    async def create(request: Request, project: Annotated[str, Depends(where)]) -> Response:
        web.check(request, "create", noun, project)
        document = await web.document(request)
        manifest = registry.find(document)
        if manifest is not None and manifest.ours == noun:
            return await foreign.created(operations, request, manifest, document, project)
        draft = envelope.read(document, kind)
        stored = await operations.create(kind, project, draft)
        answer = represent(stored, 201)
        answer.headers["Location"] = f"{collection.format(project=project)}/{stored.meta.name}"
        return answer

    @routes.put(item, operation_id=f"replace_{noun}", **describe.replace)
    async def replace(
        request: Request, project: Annotated[str, Depends(where)], name: NamePath, if_match: IfMatch = None
    ) -> Response:
        web.check(request, "update", noun, realm(kind, project, name))
        draft = envelope.read(await web.document(request), kind)
        if if_match is None and draft.version is None:
            raise PreconditionRequired(hint="Send If-Match with the ETag that was read, or `*` to overwrite anything.")
        version = draft.version if if_match is None else version_of(if_match)
        return represent(await operations.replace(kind, project, name, draft, version))

    @routes.patch(item, operation_id=f"patch_{noun}", **describe.patch)
    async def patch(
        request: Request, project: Annotated[str, Depends(where)], name: NamePath, if_match: IfMatch = None
    ) -> Response:
        web.check(request, "update", noun, realm(kind, project, name))
        change = await web.document(request)
        return represent(await operations.patch(kind, project, name, change, version_of(if_match)))

    return routes


def represent(stored: Resource, status: int = 200) -> Response:
    """The resource as an answer, its version as `ETag`."""
    return web.answer(stored.to_json(), status, web.etag(stored))
