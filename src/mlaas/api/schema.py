"""`/openapi.json`: made at the first request, for it takes a while."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from mlaas.api import documentation, envelope
from mlaas.api.tokens import TokenInput
from mlaas.kernel.resource import Json, Kinds

DESCRIPTION = (
    "Resources are `{kind, meta, spec, status}`; `{apiVersion, kind, metadata, spec}` is accepted too. Bodies are JSON or "
    "YAML (1.2 core schema), also under the content type that `curl -d` sends. Errors are problem documents (RFC 9457) "
    "with a `hint`. `ETag` and `If-Match` carry a resource's version."
)


def install(app: FastAPI, kinds: Kinds) -> None:
    """Have `app` make the document from its routes and the kinds' schemas."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = document(app, kinds)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def document(app: FastAPI, kinds: Kinds) -> Json:
    found: Json = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
    )
    models: list[Any] = [(TokenInput, "validation")]
    models += [(envelope.input_model(kind), "validation") for kind in kinds if kind.creatable]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(definitions.get("$defs", {}))
    schemas.update(documentation.COMPONENTS)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token of this platform: `mlaas_...`."}
    }
    found["security"] = [{"bearer": []}]
    for path in found["paths"].values():
        for operation in path.values():
            if "x-open" in operation:
                del operation["x-open"]
                operation["security"] = []
                for code in ("401", "403"):
                    operation["responses"].pop(code, None)
    return found
