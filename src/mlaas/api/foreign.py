"""Manifests of other systems: taken by `apply`, by a POST to the kind that they become, and at the paths at which Kubernetes'
API has them (`/apis/GROUP/VERSION/namespaces/PROJECT/PLURAL`), where they are shown with their status."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from mlaas.api import documentation, envelope
from mlaas.api.operations import Action, Operations
from mlaas.api.query import NamePath, in_project
from mlaas.interop import registry
from mlaas.interop.foreign import Foreign, Translation
from mlaas.kernel import web
from mlaas.kernel.auth import Verb
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Exists, Invalid, NotFound
from mlaas.kernel.mergepatch import merge_patch
from mlaas.kernel.resource import PLATFORM, Json, Kind, Meta, Resource
from mlaas.kernel.store.base import Query as StoreQuery

_PAGE = 1000
_MANIFEST: Json = {"type": "object", "required": ["apiVersion", "kind", "metadata", "spec"]}
_SENT: Json = {"type": "object", "required": ["metadata", "spec"], "properties": {"metadata": {"type": "object"}}}
_PATCH: Json = {"type": "object", "properties": {name: {"type": ["object", "null"]} for name in ("metadata", "spec")}}
_WRITES = (409, 413, 415, 507)
_LIST: Json = {"type": "object", "required": ["apiVersion", "kind", "items"]}
FieldManager = Annotated[str | None, Query(alias="fieldManager", include_in_schema=False)]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a manifest."""

    action: Action
    resource: Resource
    foreign: Foreign
    translation: Translation

    @property
    def warnings(self) -> list[dict[str, str]]:
        return self.translation.notes.warnings

    def headers(self) -> dict[str, str]:
        """The warnings as Kubernetes' API gives them (RFC 7234, section 5.5), at most 20."""
        said = [f"{item['field']}: {item['message']}" for item in self.warnings[:20]]
        texts = ['299 - "' + _header(text) + '"' for text in said]
        return {"Warning": ", ".join(texts)} if texts else {}


def _header(text: str) -> str:
    plain = text.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    return "".join(letter if letter.isprintable() else " " for letter in plain)[:300]


async def take(operations: Operations, request: Request, foreign: Foreign, document: Json, project: str) -> Taken:
    """Create or update what a manifest means. Raises what reading, rights and the kind refuse, naming the manifest's fields."""
    context = operations.context
    translation = await foreign.read(context, document, project)
    kind: Kind = context.kinds.get(foreign.ours)
    with translation.relocated():
        draft = envelope.read(translation.document, kind)
        place = draft.project or project
        verbs: tuple[Verb, ...] = ("create", "update")
        for verb in verbs:
            web.check(request, verb, kind.name, PLATFORM if foreign.scope == "platform" else place)
        if foreign.scope == "platform":
            await _ensure(context, place)
        await _check_free(context, foreign, kind, place, draft.name or "")
        action, resource = await operations.apply(kind, place, draft)
    return Taken(action, resource, foreign, translation)


async def created(operations: Operations, request: Request, foreign: Foreign, document: Json, project: str) -> Response:
    """The answer to a manifest posted to the kind that it becomes: that resource. Raises Exists."""
    document = _addressed(foreign, document, project, None)
    taken = await _new(operations, request, foreign, document, project)
    location = (
        f"/api/v1/projects/{project}/{operations.context.kinds.get(foreign.ours).plural}/{taken.resource.meta.name}"
    )
    headers = {**taken.headers(), **web.etag(taken.resource), "Location": location}
    return web.answer(taken.resource.to_json(), 201, headers)


async def _new(operations: Operations, request: Request, foreign: Foreign, document: Json, project: str) -> Taken:
    """`take` of what is not there yet. Raises Exists."""
    place = foreign.place(project)
    web.check(request, "create", foreign.ours, PLATFORM if foreign.scope == "platform" else place)
    name = (document.get("metadata") or {}).get("name")
    if isinstance(name, str) and await _is_there(operations.context, foreign.ours, place, name):
        raise Exists(f"There is a {foreign.ours} '{name[:80]}' already.", field="metadata.name")
    return await take(operations, request, foreign, document, project)


async def _is_there(context: Context, kind: str, project: str, name: str) -> bool:
    try:
        await context.database.get(kind, project, name)
    except NotFound:
        return False
    return True


async def _ensure(context: Context, project: str) -> None:
    """The project of what is there for all projects."""
    try:
        await context.database.create(
            Resource("project", Meta(project, PLATFORM), {"description": "What the platform itself runs."}, {})
        )
    except Exists:
        pass


async def _check_free(context: Context, foreign: Foreign, kind: Kind, project: str, name: str) -> None:
    """Raises Exists when a resource of this name is a manifest of another kind."""
    try:
        stored = await context.database.get(kind.name, project, name)
    except NotFound:
        return
    if foreign.shows(stored):
        return
    other = next((each.kind for each in registry.FOREIGN if each.ours == kind.name and each.shows(stored)), kind.name)
    raise Exists(
        f"There is {'an' if other[0] in 'IE' else 'a'} {other} '{name}' already; both would be the {kind.name} '{name}'.",
        field="metadata.name",
        hint=f"Take another name, or delete it: mlaas delete {kind.name} {name}.",
    )


def routers(context: Context) -> list[APIRouter]:
    """Of all kinds of manifests whose own kind is here."""
    return [_router(context, each) for each in registry.FOREIGN if each.ours in context.kinds.by_name]


def _router(context: Context, foreign: Foreign) -> APIRouter:
    routes = APIRouter(tags=[foreign.plural])
    operations = Operations(context)
    kind: Kind = context.kinds.get(foreign.ours)
    platform = foreign.scope == "platform"
    base = f"/apis/{foreign.group}/{foreign.version}"
    collection = f"{base}/{foreign.plural}" if platform else f"{base}/namespaces/{{project}}/{foreign.plural}"
    item = f"{collection}/{{name}}"
    noun = foreign.kind
    a_noun = f"{'an' if noun[0] in 'IE' else 'a'} {noun}"
    where: Any = (lambda: foreign.place("")) if platform else in_project
    Place = Annotated[str, Depends(where)]

    def realm(project: str, verb: Verb) -> str:
        return PLATFORM if platform and verb not in ("get", "list") else project

    async def found(project: str, name: str) -> Resource:
        try:
            resource = await context.database.get(kind.name, project, name)
            if foreign.shows(resource):
                return resource
        except NotFound:
            pass
        raise NotFound(
            f"There is no {noun} '{name[:80]}' in project '{project[:80]}'.",
            hint=f"`mlaas get {foreign.plural}` lists them.",
        )

    async def written(request: Request, project: str, name: str | None) -> Json:
        document = await web.document(request)
        if not isinstance(document, dict):
            raise Invalid(f"A {noun} is an object.", field="body")
        return _addressed(foreign, document, project, name)

    @routes.get(collection, operation_id=f"list_{noun}", **_described(f"List {foreign.plural}", 200, _LIST))
    async def list_(request: Request, project: Place) -> Response:
        web.check(request, "list", kind.name, realm(project, "list"))
        if not platform:
            await operations.check_project(project)
        items: list[Json] = []
        after: str | None = None
        while True:
            query = StoreQuery(kind=kind.name, projects=frozenset({project}), limit=_PAGE, after=after)
            page = await context.database.list(query)
            items += [foreign.show(each) for each in page.items if foreign.shows(each)]
            after = page.next
            if after is None:
                break
        listed = {"apiVersion": foreign.api_version, "kind": f"{noun}List", "items": items}
        return web.answer({**listed, "metadata": {"resourceVersion": str(page.revision)}})

    @routes.get(item, operation_id=f"get_{noun}", **_described(f"Get one {noun}", 200, _MANIFEST, 404))
    async def get(request: Request, project: Place, name: NamePath) -> Response:
        web.check(request, "get", kind.name, realm(project, "get"))
        return web.answer(foreign.show(await found(project, name)))

    sent = documentation.body(_SENT)

    @routes.post(
        collection,
        operation_id=f"create_{noun}",
        **_described(f"Create {a_noun}", 201, _MANIFEST, *_WRITES, extra=sent),
    )
    async def create(request: Request, project: Place, manager: FieldManager = None) -> Response:
        document = await written(request, project, None)
        taken = await _new(operations, request, foreign, document, project)
        return web.answer(foreign.show(taken.resource), 201, taken.headers())

    @routes.put(
        item, operation_id=f"replace_{noun}", **_described(f"Replace {a_noun}", 200, _MANIFEST, *_WRITES, extra=sent)
    )
    async def put(request: Request, project: Place, name: NamePath, manager: FieldManager = None) -> Response:
        document = await written(request, project, name)
        await found(project, name)
        taken = await take(operations, request, foreign, document, project)
        return web.answer(foreign.show(taken.resource), 200, taken.headers())

    @routes.patch(
        item,
        operation_id=f"patch_{noun}",
        **_described(
            f"Change {a_noun} by a merge patch (RFC 7396)",
            200,
            _MANIFEST,
            *_WRITES,
            extra=documentation.body(_PATCH, patch=True),
        ),
    )
    async def patch(request: Request, project: Place, name: NamePath, manager: FieldManager = None) -> Response:
        web.check(request, "update", kind.name, realm(project, "update"))
        change = await web.document(request)
        if not isinstance(change, dict):
            raise Invalid("A merge patch is an object (RFC 7396).", field="body")
        shown = {key: value for key, value in foreign.show(await found(project, name)).items() if key != "status"}
        document = _addressed(foreign, merge_patch(shown, change), project, name)
        taken = await take(operations, request, foreign, document, project)
        return web.answer(foreign.show(taken.resource), 200, taken.headers())

    @routes.delete(item, operation_id=f"delete_{noun}", **_deletion(a_noun))
    async def delete(request: Request, project: Place, name: NamePath) -> Response:
        web.check(request, "delete", kind.name, realm(project, "delete"))
        await found(project, name)
        resource, gone = await operations.delete(kind, project, name, None)
        return web.answer(foreign.show(resource), 200 if gone else 202)

    return routes


def _addressed(foreign: Foreign, document: Json, project: str, name: str | None) -> Json:
    """The document, with what its address says of it. Raises Invalid where they contradict each other."""
    named = registry.find({"apiVersion": foreign.api_version, "kind": foreign.kind, **document})
    if named is not foreign:
        raise Invalid(f"kind is '{str(document.get('kind'))[:80]}'; {foreign.kind} belongs here.", field="kind")
    metadata = document.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise Invalid("It is an object.", field="metadata")
    metadata = dict(metadata or {})
    for key, value in (("namespace", project), ("name", name)):
        if value is not None and metadata.setdefault(key, value) != value and foreign.scope == "project":
            raise Invalid(
                f"metadata.{key} is '{str(metadata[key])[:80]}', the address says '{value}'.", field=f"metadata.{key}"
            )
    return {**document, "metadata": metadata}


def _described(summary: str, status: int, schema: Json, *errors: int, extra: Json | None = None) -> Json:
    answer = documentation.json_answer("The manifest, with its status.", schema)
    return documentation.route(summary, (status, answer), errors=(404, *errors), extra=extra)


def _deletion(a_noun: str) -> Json:
    return documentation.route(
        f"Delete {a_noun}",
        (200, documentation.json_answer("It is gone; this is what it was.", _MANIFEST)),
        (202, documentation.json_answer("It goes once its finalizers are done.", _MANIFEST)),
        errors=(404, 409),
    )
