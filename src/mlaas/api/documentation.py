"""What `/openapi.json` says of the routes: bodies, answers, errors. Bodies are read by `kernel.web`, so that JSON, YAML and
`curl -d` work alike; FastAPI is told about them here."""

from dataclasses import dataclass, field

from mlaas.kernel.resource import Json, Kind

PROBLEM = "application/problem+json"
_REASONS = {
    400: "The body or a header cannot be read.",
    401: "No valid token came with the request.",
    403: "The token's role does not allow this.",
    404: "There is no such resource or project.",
    405: "The method is not possible here.",
    409: "The name is taken, or this field cannot change, or the resource is being deleted.",
    410: "The revision is older than what is kept: list again.",
    412: "`If-Match` names another version.",
    413: "The body is too large.",
    415: "The body's content type is not read here.",
    416: "The range lies outside the blob.",
    422: "A field has a value that cannot be used; `errors` names each.",
    428: "`If-Match` is required.",
    500: "The platform met an error that it did not expect.",
    503: "A back end does not answer: try again.",
    507: "The disk is full.",
}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def problems(*codes: int) -> dict[int | str, Json]:
    """The error answers that a route may give, those of every route included."""
    wanted = sorted({400, 401, 403, 422, 500, 503, *codes})
    return {code: {"description": _REASONS[code], "content": {PROBLEM: {"schema": ref("Problem")}}} for code in wanted}


def json_answer(description: str, schema: Json, *, etag: bool = False) -> Json:
    answer: Json = {"description": description, "content": {"application/json": {"schema": schema}}}
    if etag:
        answer["headers"] = {
            "ETag": {"description": "The version, for `If-Match`.", "schema": {"type": "string"}, "required": True}
        }
    return answer


def links(kind: Kind) -> Json:
    """Where the resource that was just created is found (OpenAPI links): for generated clients and tests."""
    known = {"name": "$response.body#/meta/name"}
    if kind.scope == "project":
        known["project"] = "$response.body#/meta/project"
    return {verb: {"operationId": f"{verb}_{kind.name}", "parameters": known} for verb in ("get", "patch")}


def body(schema: Json, *, patch: bool = False) -> Json:
    """The OpenAPI request body of a route that reads JSON or YAML."""
    media = ["application/merge-patch+json", "application/json"] if patch else ["application/json", "application/yaml"]
    return {"requestBody": {"required": True, "content": {name: {"schema": schema} for name in media}}}


def route(summary: str, *answers: tuple[int, Json], errors: tuple[int, ...] = (), extra: Json | None = None) -> Json:
    """Keyword arguments of a FastAPI route. The first answer is the usual one."""
    from starlette.responses import Response

    return {
        "summary": summary,
        "status_code": answers[0][0],
        "responses": {**dict(answers), **problems(*errors)},
        "openapi_extra": extra or {},
        "response_class": Response,
    }


@dataclass(frozen=True, slots=True)
class Documented:
    """The keyword arguments of a kind's routes."""

    list: Json
    list_all: Json = field(default_factory=dict)
    get: Json = field(default_factory=dict)
    create: Json = field(default_factory=dict)
    replace: Json = field(default_factory=dict)
    patch: Json = field(default_factory=dict)
    delete: Json = field(default_factory=dict)


def of(kind: Kind) -> Documented:
    """The documentation of the generic routes of `kind`."""
    title, many = kind.name.capitalize(), kind.plural
    one = json_answer(f"The {kind.name}.", ref("Resource"), etag=True)
    page = json_answer("A page, true at `revision`.", ref("ResourceList"))
    watching = (
        " With `?watch=1` a stream of server-sent events (put, delete, bookmark, gone), resumed by Last-Event-ID."
    )
    listing = {"description": f"{kind.description}{watching}"}
    return Documented(
        list=route(f"List {many}", (200, page), errors=(404,)) | listing,
        list_all=route(f"List {many} of all projects", (200, page)) | listing,
        get=route(f"Get a {kind.name}", (200, one), errors=(404,)),
        create=route(
            f"Create a {kind.name}",
            (201, one | {"links": links(kind)}),
            errors=(404, 409, 413, 415, 507),
            extra=body(ref(f"{title}Input")),
        ),
        replace=route(
            f"Replace a {kind.name}",
            (200, one),
            errors=(404, 409, 412, 413, 415, 428, 507),
            extra=body(ref(f"{title}Input")),
        ),
        patch=route(
            f"Change a {kind.name} by a merge patch (RFC 7396)",
            (200, one),
            errors=(404, 409, 412, 413, 415, 507),
            extra=body(ref("MergePatch"), patch=True),
        ),
        delete=route(
            f"Delete a {kind.name}",
            (200, json_answer("It is gone; this is what it was.", ref("Resource"), etag=True)),
            (202, json_answer("It goes once its finalizers are done.", ref("Resource"), etag=True)),
            errors=(404, 409, 412),
        ),
    )


TOKENS = Documented(
    list=route("List tokens", (200, json_answer("All tokens, without their secrets.", ref("TokenList")))),
    create=route(
        "Create a token",
        (201, json_answer("The token; `token` is its secret, shown this once.", ref("NewToken"))),
        errors=(409, 413, 415),
        extra=body(ref("TokenInput")),
    ),
    delete=route("Delete a token", (204, {"description": "It is void."}), errors=(404, 409)),
)

_TEXT: Json = {"type": "string"}
_TOKEN: Json = {
    "name": _TEXT,
    "role": {"enum": ["viewer", "editor", "admin", "caller"]},
    "projects": {"type": ["array", "null"], "items": _TEXT},
    "created": _TEXT,
    "expires": {"type": ["string", "null"]},
    "service": {"type": ["string", "null"], "description": "The only one that a caller may ask."},
}

COMPONENTS: Json = {
    "Problem": {
        "type": "object",
        "description": "An error (RFC 9457), with what to do about it.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What happened and where."},
            "code": {"type": "string", "description": "For programs; stable."},
            "hint": {"type": "string", "description": "What to do next."},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {"field": _TEXT, "message": _TEXT},
                },
            },
        },
    },
    "Condition": {
        "type": "object",
        "required": ["type", "status", "reason", "message", "last_transition_time"],
        "properties": {
            "type": _TEXT,
            "status": {"enum": ["True", "False", "Unknown"]},
            "reason": _TEXT,
            "message": _TEXT,
            "last_transition_time": _TEXT,
        },
    },
    "Meta": {
        "type": "object",
        "required": ["name", "project", "uid", "version", "generation", "labels", "created"],
        "properties": {
            "name": _TEXT,
            "project": _TEXT,
            "uid": _TEXT,
            "version": {"type": "integer", "description": "The revision of the last write."},
            "generation": {"type": "integer", "description": "Grows with every change of the spec."},
            "title": _TEXT,
            "labels": {"type": "object", "additionalProperties": _TEXT},
            "owner": {"type": "object", "additionalProperties": _TEXT},
            "created": _TEXT,
            "deleted": {"type": ["string", "null"], "description": "When deletion was asked for."},
            "finalizers": {"type": "array", "items": _TEXT},
        },
    },
    "Resource": {
        "type": "object",
        "required": ["kind", "meta", "spec", "status"],
        "properties": {
            "kind": _TEXT,
            "schema_version": {"type": "integer"},
            "meta": ref("Meta"),
            "spec": {"type": "object", "description": "What was asked for."},
            "status": {
                "type": "object",
                "description": "What is, written by the platform.",
                "properties": {
                    "phase": _TEXT,
                    "conditions": {"type": "array", "items": ref("Condition")},
                    "progress": {"type": ["object", "null"]},
                },
            },
        },
    },
    "ResourceList": {
        "type": "object",
        "required": ["items", "revision", "next"],
        "properties": {
            "items": {"type": "array", "items": ref("Resource")},
            "revision": {"type": "integer", "description": "What the page is true at; a watch can begin there."},
            "next": {"type": ["string", "null"], "description": "`after` of the following page."},
        },
    },
    "MergePatch": {
        "type": "object",
        "description": "A merge patch (RFC 7396): null removes a key.",
        "properties": {
            "meta": {
                "type": "object",
                "properties": {
                    "title": {"type": ["string", "null"], "maxLength": 500},
                    "labels": {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}},
                },
            },
            "spec": {"type": "object"},
        },
    },
    "Applied": {
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {
                "type": "array",
                "description": "One for each document, in order: `action` and `resource`, or `error`.",
                "items": {
                    "type": "object",
                    "properties": {
                        "action": {"enum": ["created", "configured", "unchanged"]},
                        "resource": ref("Resource"),
                        "manifest": {
                            "type": "object",
                            "description": "The foreign kind that the document was of.",
                            "properties": {"kind": _TEXT, "api_version": _TEXT},
                        },
                        "warnings": {
                            "type": "array",
                            "description": "Fields of a foreign manifest that are taken in another sense, or not at all.",
                            "items": {"type": "object", "properties": {"field": _TEXT, "message": _TEXT}},
                        },
                        "error": ref("Problem"),
                    },
                },
            }
        },
    },
    "PointList": {
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["metric", "step", "time", "value"],
                    "properties": {
                        "metric": _TEXT,
                        "step": {"type": "integer"},
                        "time": {"type": "number", "description": "Seconds since the epoch."},
                        "value": {"type": ["number", "null"]},
                    },
                },
            },
            "next": {"type": "integer", "description": "`after` of what comes later."},
        },
    },
    "EventList": {
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["type", "reason", "message", "count", "first_seen", "last_seen"],
                    "properties": {
                        "owner": {"type": "object"},
                        "type": {"enum": ["Normal", "Warning"]},
                        "reason": _TEXT,
                        "message": _TEXT,
                        "count": {"type": "integer"},
                        "first_seen": _TEXT,
                        "last_seen": _TEXT,
                    },
                },
            },
            "next": {"type": "integer", "description": "`after` of what comes later."},
        },
    },
    "Token": {"type": "object", "required": ["name", "role", "created"], "properties": _TOKEN},
    "NewToken": {"type": "object", "required": ["name", "role", "token"], "properties": {**_TOKEN, "token": _TEXT}},
    "TokenList": {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": ref("Token")}},
    },
    "Health": {"type": "object", "required": ["status"], "properties": {"status": _TEXT}},
    "Doctor": {
        "type": "object",
        "required": ["checks"],
        "properties": {
            "checks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "state", "message"],
                    "properties": {
                        "name": _TEXT,
                        "state": {"enum": ["ok", "warn", "bad"]},
                        "message": _TEXT,
                        "hint": {"type": ["string", "null"]},
                    },
                },
            }
        },
    },
}
