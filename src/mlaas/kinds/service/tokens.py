"""Tokens that call one service and do nothing else: made and voided by who may change the service, renewed by who has them."""

import secrets
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from mlaas.kernel import web
from mlaas.kernel.auth import caller_name
from mlaas.kernel.context import Context
from mlaas.kernel.errors import NotFound
from mlaas.kernel.resource import Json, Spec
from mlaas.kernel.store.base import Token
from mlaas.kernel.validation import Matching, validated
from mlaas.kinds.service.documentation import described
from mlaas.kinds.service.references import find
from mlaas.kinds.service.spec import KIND

DEFAULT_TTL = 3600.0
LONGEST_TTL = 365 * 86400.0
_NAME = Matching(
    r"^[A-Za-z0-9][A-Za-z0-9@._+-]*$", "must be letters, digits and @ . _ + -, beginning with a letter or digit"
)
_TEXT: Json = {"type": "string"}
_TOKEN: Json = {
    "type": "object",
    "required": ["name", "project", "service", "created", "expires", "ttl"],
    "properties": {
        "name": _TEXT,
        "project": _TEXT,
        "service": _TEXT,
        "created": _TEXT,
        "expires": _TEXT,
        "ttl": {"type": "number", "description": "Seconds that it lives from now, or from its renewal."},
    },
}
_NEW: Json = {**_TOKEN, "properties": {**_TOKEN["properties"], "token": {**_TEXT, "description": "Shown this once."}}}
_LIST: Json = {"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": _TOKEN}}}

Segment = Annotated[str, Path(max_length=253)]


class CallerInput(Spec):
    """A token to make. Without a name it gets one; `ttl` is in seconds."""

    name: Annotated[str, Field(max_length=100), _NAME] | None = None
    ttl: Annotated[float, Field(gt=0, le=LONGEST_TTL)] = DEFAULT_TTL


def describe(token: Token) -> Json:
    """The token without its secret."""
    assert token.projects is not None
    assert token.expires is not None
    expires = datetime.fromtimestamp(token.expires, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "name": token.name.rpartition(":")[2],
        "project": next(iter(token.projects)),
        "service": token.service,
        "created": token.created,
        "expires": expires,
        "ttl": token.lifetime,
    }


def add_routes(routes: APIRouter, context: Context) -> None:
    """`tokens` below a service."""

    @routes.post(
        "/tokens",
        operation_id="create_service_token",
        status_code=201,
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": CallerInput.model_json_schema()}}}},
        **described("Make a token that calls this service alone", _NEW, 201),
    )
    async def create(request: Request, project: Segment, name: Segment) -> Response:
        web.check(request, "update", KIND.name, project, name)
        await find(context, project, name)
        wanted = validated(CallerInput, await web.document(request) if await request.body() else {})
        chosen = wanted.name or secrets.token_hex(4)
        secret, token = await context.auth.issue_for_service(chosen, project, name, wanted.ttl)
        if context.services is not None:
            await context.services.admitted(project, name, token.digest)
        return web.answer({**describe(token), "token": secret}, 201, {"Cache-Control": "no-store"})

    @routes.get("/tokens", operation_id="list_service_tokens", **described("The service's tokens", _LIST))
    async def list_(request: Request, project: Segment, name: Segment) -> Response:
        web.check(request, "update", KIND.name, project, name)
        await find(context, project, name)
        return web.answer({"items": [describe(token) for token in await _of(context, project, name)]})

    @routes.delete(
        "/tokens/{token}", operation_id="delete_service_token", **described("Void a token of the service", None, 204)
    )
    async def delete(request: Request, project: Segment, name: Segment, token: Segment) -> Response:
        web.check(request, "update", KIND.name, project, name)
        try:
            await context.auth.revoke(caller_name(project, name, token))
        except NotFound:
            raise NotFound(f"The service '{name[:80]}' has no token '{token[:80]}'.") from None
        return Response(status_code=204)

    @routes.post(
        "/tokens/self/renew", operation_id="renew_service_token", **described("Renew the caller's own", _TOKEN)
    )
    async def renew(request: Request, project: Segment, name: Segment) -> Response:
        web.check(request, "get", KIND.name, project, name)
        token = await context.auth.renew(_bearer(request))
        return web.answer(describe(token))


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").partition(" ")[2].strip()


async def _of(context: Context, project: str, service: str) -> list[Token]:
    return [
        token
        for token in await context.auth.list()
        if token.service == service and token.projects == frozenset({project})
    ]


async def end_all(context: Context, project: str, service: str) -> None:
    """Void every token of a service that goes: one of the same name later is another one."""
    for token in await _of(context, project, service):
        try:
            await context.auth.revoke(token.name)
        except NotFound:
            pass
