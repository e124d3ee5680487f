"""Administration of tokens: a secret is shown once, at its creation."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from mlaas.api import documentation
from mlaas.api.operations import Operations
from mlaas.kernel import web
from mlaas.kernel.auth import ADMINISTRATOR
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Conflict, Invalid, NotFound
from mlaas.kernel.resource import Json, Spec
from mlaas.kernel.store.base import Token
from mlaas.kernel.validation import NAMED, Matching, validated

_NAME = Matching(
    r"^[A-Za-z0-9][A-Za-z0-9@._+-]*$", "must be letters, digits and @ . _ + -, beginning with a letter or digit"
)


class TokenInput(Spec):
    """A token to make. Without `projects` it is for all of them; without `expires_in` (seconds) for ever."""

    name: Annotated[str, Field(min_length=1, max_length=100), _NAME]
    role: Literal["viewer", "editor", "admin"] = "editor"
    projects: Annotated[list[Annotated[str, Field(max_length=50), NAMED]], Field(max_length=1000)] | None = None
    expires_in: Annotated[float, Field(gt=0, le=1e10)] | None = None


def describe(token: Token) -> Json:
    """The token without its secret."""
    expires = None
    if token.expires is not None:
        expires = datetime.fromtimestamp(token.expires, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "name": token.name,
        "role": token.role,
        "projects": None if token.projects is None else sorted(token.projects),
        "created": token.created,
        "expires": expires,
        "service": token.service,
    }


def router(context: Context) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/tokens", tags=["tokens"])
    operations = Operations(context)

    @routes.get("", operation_id="list_tokens", **documentation.TOKENS.list)
    async def list_(request: Request) -> Response:
        web.check(request, "list", "token", None)
        return web.answer({"items": [describe(token) for token in await context.auth.list()]})

    @routes.post("", operation_id="create_token", **documentation.TOKENS.create)
    async def create(request: Request) -> Response:
        web.check(request, "create", "token", None)
        wanted = validated(TokenInput, await web.document(request))
        for i, project in enumerate(wanted.projects or ()):
            try:
                await operations.check_project(project)
            except NotFound as error:
                raise Invalid(error.message, field=f"projects.{i}", hint=error.hint) from None
        projects = None if not wanted.projects else frozenset(wanted.projects)
        secret, token = await context.auth.issue(wanted.name, wanted.role, projects, wanted.expires_in)
        return web.answer({**describe(token), "token": secret}, 201, {"Cache-Control": "no-store"})

    @routes.delete("/{name}", operation_id="delete_token", **documentation.TOKENS.delete)
    async def delete(request: Request, name: Annotated[str, Path(description="The token's name.")]) -> Response:
        web.check(request, "delete", "token", None)
        if name == ADMINISTRATOR:
            raise Conflict(
                "The administrator's token cannot be deleted here.",
                hint="Stop the platform, remove DATA/admin-token, start it again: it makes a new one.",
            )
        await context.auth.revoke(name)
        return Response(status_code=204)

    return routes


def schema() -> dict[str, Any]:
    """The JSON schema of a request to make a token."""
    return TokenInput.model_json_schema()
