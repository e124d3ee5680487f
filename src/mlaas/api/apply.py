"""`POST /api/v1/apply`: many documents of any kinds at once, each created or updated on its own."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from mlaas.api import documentation, envelope, foreign
from mlaas.api.auth import realm
from mlaas.api.operations import Operations
from mlaas.api.problem import foreseen
from mlaas.interop import registry
from mlaas.kernel import web
from mlaas.kernel.auth import Verb
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Invalid
from mlaas.kernel.resource import PLATFORM, Json
from mlaas.kernel.validation import nearest

MAX_DOCUMENTS = 1000


def router(context: Context) -> APIRouter:
    routes = APIRouter(tags=["apply"])
    operations = Operations(context)

    async def one(request: Request, document: Json, project: str) -> Json:
        if not isinstance(document.get("kind"), str):
            raise Invalid("A document to apply needs a 'kind'.", field="kind")
        manifest = registry.find(document)
        if manifest is not None:
            taken = await foreign.take(operations, request, manifest, document, project)
            shown = {"kind": manifest.kind, "api_version": manifest.api_version}
            return {
                "action": taken.action,
                "resource": taken.resource.to_json(),
                "manifest": shown,
                "warnings": taken.warnings,
            }
        name = document["kind"].lower()
        kind = context.kinds.by_name.get(name)
        if kind is None:
            known = sorted(context.kinds.by_name)
            meant = nearest(name, known)
            raise Invalid(
                f"There is no kind '{document['kind'][:80]}'." + (f" Did you mean '{meant}'?" if meant else ""),
                field="kind",
                hint=f"Kinds here: {', '.join(known)}.",
            )
        draft = envelope.read(document, kind)
        place = PLATFORM if kind.scope == "platform" else draft.project or project
        verbs: tuple[Verb, ...] = ("create", "update")
        for verb in verbs:
            web.check(request, verb, kind.name, realm(kind, place, draft.name or ""))
        action, resource = await operations.apply(kind, place, draft)
        return {"action": action, "resource": resource.to_json()}

    @routes.post(
        "/api/v1/apply",
        operation_id="apply",
        **documentation.route(
            "Create or update many resources",
            (200, documentation.json_answer("What became of each document.", documentation.ref("Applied"))),
            errors=(413, 415),
            extra=documentation.body(
                {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}, "maxItems": 1000}]}
            ),
        ),
    )
    async def apply(
        request: Request,
        project: Annotated[str, Query(description="Of documents that name none.", max_length=50)] = "default",
    ) -> Response:
        documents = [each for each in await web.documents(request) if each is not None]
        if len(documents) == 1 and isinstance(documents[0], list):
            documents = documents[0]
        if not documents or len(documents) > MAX_DOCUMENTS:
            raise Invalid(f"The body holds {len(documents)} documents; 1 to {MAX_DOCUMENTS} can be applied.")
        for i, document in enumerate(documents):
            if not isinstance(document, dict):
                raise Invalid(f"Document {i + 1} is no object with 'kind', 'meta' and 'spec'.", field=str(i))
        items = []
        for document in documents:
            try:
                items.append(await one(request, document, project))
            except Exception as error:
                known = foreseen(error)
                if known is None:
                    raise
                items.append({"error": known.problem()})
        return web.answer({"items": items})

    return routes
