"""What `/openapi.json` says of the routes of tasks."""

from collections.abc import Callable
from typing import Any

from fastapi import Response

from mlaas.kernel.resource import Json

_TEXT: Json = {"type": "string"}
_REASONS = {
    400: "The body or a header cannot be read.",
    401: "No valid token came with the request.",
    403: "The token's role does not allow this.",
    404: "There is no such task or project.",
    409: "The name or the target is taken, or the task has ended.",
    413: "The body is too large.",
    415: "The body's content type is not read here.",
    422: "A field has a value that cannot be used; `errors` names each.",
    500: "The platform met an error that it did not expect.",
    503: "A back end does not answer: try again.",
    507: "The disk is full.",
}
_ALWAYS = (400, 401, 403, 422, 500, 503)

_ERROR: Json = {
    "type": "object",
    "required": ["code", "message", "hint"],
    "properties": {"code": _TEXT, "message": _TEXT, "hint": _TEXT, "field": _TEXT},
}
BRIEF: Json = {
    "type": "object",
    "required": ["task_id", "task_status", "stats"],
    "properties": {
        "task_id": _TEXT,
        "task_status": {"enum": ["pending", "queued", "running", "succeeded", "failed", "cancelled"]},
        "stats": {
            "type": "object",
            "required": ["submitted", "elapsed"],
            "properties": {
                "submitted": {"type": "string", "description": "ISO 8601, UTC."},
                "elapsed": {"type": "string", "description": "`H:MM:SS` or `N day(s), H:MM:SS`."},
            },
        },
        "name": _TEXT,
        "project": _TEXT,
        "error": _ERROR,
    },
}
ANSWER: Json = {
    **BRIEF,
    "properties": {
        **BRIEF["properties"],
        "history": {"type": "object", "description": "Per metric, one value an epoch."},
        "evaluation": {"type": "object"},
        "dataset": {"type": "object"},
        "predictions": {"type": "array", "description": "One for each input."},
        "results": {"type": "array", "description": "For each input text a list of content, metadata, score."},
        "index": {"type": "object"},
        "output": {"type": "object"},
        "warnings": {"type": "array", "items": _TEXT},
        "progress": {"type": "object"},
        "message": {"type": "string", "description": "Why it waits."},
    },
}
LIST: Json = {
    "type": "object",
    "required": ["items", "next"],
    "properties": {"items": {"type": "array", "items": BRIEF}, "next": {"type": ["string", "null"]}},
}
RESOURCE: Json = {"$ref": "#/components/schemas/Resource"}
PROBLEM = "application/problem+json"


def described(
    summary: str, status: int, schema: Json, errors: tuple[int, ...], *, body: Callable[[], Json] | None = None
) -> dict[str, Any]:
    """The keyword arguments of a route that describe it."""
    answers: dict[int | str, Json] = {
        status: {"description": summary + ".", "content": {"application/json": {"schema": schema}}}
    }
    for code in sorted({*_ALWAYS, *errors}):
        problem: Json = {"schema": {"$ref": "#/components/schemas/Problem"}}
        answers[code] = {"description": _REASONS[code], "content": {PROBLEM: problem}}
    extra: Json = {}
    if body is not None:
        known = {"task_id": "$response.body#/task_id"}  # where a task that was just posted is found
        answers[status]["links"] = {"get": {"operationId": "get_form", "parameters": known}}
        sent = {"schema": inlined(body())}
        content = dict.fromkeys(("application/json", "application/yaml"), sent)
        extra["requestBody"] = {"required": True, "content": content}
    return {
        "summary": summary,
        "status_code": status,
        "responses": answers,
        "openapi_extra": extra,
        "response_class": Response,
    }


def inlined(schema: Json) -> Json:
    """The schema with each `#/$defs/NAME` replaced by what it stands for: in an OpenAPI document such a reference would lead
    elsewhere. None of ours refers to itself."""
    definitions: Json = schema.get("$defs", {})

    def expand(value: Any) -> Any:
        if isinstance(value, dict):
            name = value.get("$ref")
            if isinstance(name, str) and name.startswith("#/$defs/"):
                rest = {key: expand(each) for key, each in value.items() if key != "$ref"}
                return {**expand(definitions[name.removeprefix("#/$defs/")]), **rest}
            return {key: expand(each) for key, each in value.items() if key != "$defs"}
        if isinstance(value, list):
            return [expand(each) for each in value]
        return value

    expanded: Json = expand(schema)
    return expanded
