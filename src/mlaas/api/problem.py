"""Every error as an RFC 9457 problem document: ours, FastAPI's, and those that nobody foresaw."""

import asyncio
import errno
import logging
import secrets
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlaas.kernel import web
from mlaas.kernel.errors import Error, Full, Invalid, NotFound, Unauthenticated, Unavailable
from mlaas.kernel.validation import in_words, nearest

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("mlaas.api")


def respond(error: Error, headers: dict[str, str] | None = None) -> Response:
    """The answer that carries `error`."""
    extra = dict(headers or {})
    if isinstance(error, Unauthenticated):
        extra["WWW-Authenticate"] = 'Bearer realm="mlaas"'
    elif isinstance(error, Unavailable):
        extra["Retry-After"] = "1"
    return web.answer(error.problem(), error.status, extra, MEDIA_TYPE)


def foreseen(error: Exception) -> Error | None:
    """The error of ours that an exception of the system stands for, if any."""
    if isinstance(error, Error):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full(
            "The disk of the platform is full.", hint="Free space in the data folder; `mlaas doctor` shows use."
        )
    return None


def _invalid(error: RequestValidationError) -> Invalid:
    errors = []
    for item in error.errors()[:20]:
        where = [str(part)[:80] for part in item["loc"][1:]]
        errors.append(
            {
                "field": ".".join(where) or str(item["loc"][0]),
                "message": in_words(item["type"], item.get("ctx") or {}, str(item["msg"]))[:300],
            }
        )
    first = errors[0]
    return Invalid(f"{first['field']}: {first['message']}", field=first["field"], errors=errors)


def _filled(template: str, path: str) -> str:
    """The route's path with the variables that `path` has in their places."""
    given = path.split("/")
    parts = template.split("/")
    return "/".join(
        given[i] if part.startswith("{") and i < len(given) and given[i] else part for i, part in enumerate(parts)
    )


def _http(error: HTTPException, request: Request, routes: list[Route]) -> Response:
    """Errors of the router itself: no such path, method not allowed."""
    path = request.url.path[:200]
    if error.status_code == 404:
        meant = nearest(path, sorted({_filled(route.path, path) for route in routes}))
        hint = f"Did you mean {meant}?" if meant else "All paths are in /openapi.json."
        return respond(NotFound(f"There is nothing at {path}.", hint=hint))
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method[:20]} is not possible at {path}."
        # Starlette names the methods of the first route with this path only. A path without variables goes first.
        found = [route for route in routes if route.path_regex.match(request.url.path)]
        exact = [route for route in found if route.path == request.url.path]
        methods = {method for route in exact or found for method in route.methods or ()}
        methods |= {"HEAD"} if "GET" in methods else set()
        headers["Allow"] = ", ".join(sorted(methods))
    document: dict[str, Any] = {
        "type": f"about:mlaas#{status.phrase.lower().replace(' ', '-')}",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "code": status.phrase.lower().replace(" ", "-"),
    }
    if "Allow" in headers:
        document["hint"] = f"Methods here: {headers['Allow']}."
    return web.answer(document, int(status), headers, MEDIA_TYPE)


def install(app: FastAPI, routes: list[Route]) -> None:
    """Have `app` answer every error as a problem. `routes` are all of its routes: what they have is named in hints."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, Error)
        return respond(error)

    async def fastapi(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(_invalid(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _http(error, request, routes)

    app.add_exception_handler(Error, ours)
    app.add_exception_handler(RequestValidationError, fastapi)
    app.add_exception_handler(HTTPException, http)


class Head:
    """Answers HEAD as GET without the body (RFC 9110, section 9.3.2), but on the paths of `own`, routes with a HEAD."""

    def __init__(self, app: ASGIApp, own: list[Route]) -> None:
        self.app = app
        self.own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] != "HEAD"
            or any(route.path_regex.match(scope["path"]) for route in self.own)
        ):
            await self.app(scope, receive, send)
            return
        over = asyncio.Event()

        async def headers_only(message: Message) -> None:
            if message["type"] != "http.response.start":
                return
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            over.set()

        async def gone_once_answered() -> Message:
            """A stream ends when its reader is gone: after the headers this one is."""
            asked = asyncio.ensure_future(receive())
            answered = asyncio.ensure_future(over.wait())
            await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
            answered.cancel()
            if asked.done() and not over.is_set():
                return asked.result()
            asked.cancel()
            return {"type": "http.disconnect"}

        await self.app({**scope, "method": "GET"}, gone_once_answered, headers_only)


class Unexpected:
    """Outermost: what no handler foresaw is logged with an identifier that the answer names, never shown."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception as error:
            known = foreseen(error)
            if known is None:
                reference = secrets.token_hex(4)
                log.exception("request failed: %s %s reference=%s", scope["method"], scope["path"], reference)
                known = Error(
                    "The platform met an error that it did not expect. Nothing that was accepted is lost.",
                    hint=f"Its log has the details under reference={reference}.",
                )
            if not started:
                await respond(known)(scope, receive, send)
