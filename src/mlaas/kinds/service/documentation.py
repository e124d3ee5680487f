"""What `/openapi.json` says of the routes of services."""

from typing import Any

from fastapi import Response

from mlaas.kernel.resource import Json

_REASONS = {
    400: "The body or a header cannot be read.",
    401: "No valid token came with the request.",
    403: "The token's role does not allow this.",
    404: "There is no such service or project.",
    409: "There is nothing to promote or to go back to, or the name is taken.",
    413: "The body is too large.",
    415: "The body's content type is not read here.",
    422: "A field has a value that cannot be used; `errors` names each.",
    503: "A back end does not answer: try again.",
}
RESOURCE: Json = {"type": "object", "required": ["kind", "meta", "spec", "status"]}


def described(summary: str, schema: Json | None, status: int = 200) -> dict[str, Any]:
    """The keywords of a route: its answer, and what else it may answer."""
    content = {} if schema is None else {"content": {"application/json": {"schema": schema}}}
    problem = {"application/problem+json": {"schema": {"type": "object"}}}
    responses: dict[int, Json] = {status: {"description": "Successful answer.", **content}}
    responses |= {code: {"description": text, "content": problem} for code, text in _REASONS.items()}
    return {"summary": summary, "response_class": Response, "responses": responses}
