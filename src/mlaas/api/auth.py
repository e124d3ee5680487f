"""Who asks: bearer tokens (RFC 6750). What they may do is decided by `kernel.auth.allowed` alone."""

from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection, Request

from mlaas.kernel.auth import Principal, Verb, allowed
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Error, Unauthenticated
from mlaas.kernel.resource import Kind


def token_of(request: HTTPConnection) -> str | None:
    """The token of `Authorization: Bearer TOKEN`; None without the header. Raises Unauthenticated for another scheme."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "The Authorization header holds no bearer token.", hint="Send 'Authorization: Bearer TOKEN'."
        )
    return token.strip()


def authenticator(context: Context) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """The dependency of every route but the open ones. Leaves the principal in `request.state.principal`."""

    async def authenticate(request: HTTPConnection) -> Principal:
        principal: Principal = await context.auth.authenticate(token_of(request))
        request.state.principal = principal
        return principal

    return authenticate


async def still_allowed(context: Context, request: Request, verb: Verb, kind: str, project: str | None) -> bool:
    """Whether a stream may go on: its token was not revoked meanwhile and did not expire."""
    try:
        principal = await context.auth.authenticate(token_of(request))
    except Error:
        return False
    return allowed(principal, verb, kind, project)


def realm(kind: Kind, project: str, name: str) -> str:
    """The project that decides about a resource: for a project itself, that one."""
    return name if kind.name == "project" else project
