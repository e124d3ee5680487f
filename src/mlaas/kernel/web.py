"""What every HTTP route needs, those of kinds included: the body as plain data, who asks, whether they may."""

from typing import Any

import orjson
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from mlaas.kernel import body
from mlaas.kernel.auth import Principal, Verb, require
from mlaas.kernel.errors import Malformed, TooLarge, Unsupported
from mlaas.kernel.resource import Resource

_READABLE = ("json", "yaml", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream")


async def read(request: Request, limit: int = body.MAX_BYTES) -> bytes:
    """The body's bytes. Raises TooLarge before anything is read when `Content-Length` says so, else as soon as it shows."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than the {limit:,} bytes that are accepted here.",
        hint="Put large data into a file or an S3 bucket and name its path.",
    )


async def documents(request: Request, limit: int = body.MAX_BYTES) -> list[Any]:
    """All documents of the body, as plain data: JSON or YAML, also under `curl -d`'s content type.

    Raises Unsupported, TooLarge or Malformed.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise Unsupported(
            f"A body with Content-Encoding '{coding[:80]}' is not read here.", hint="Send it uncompressed."
        )
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type and not any(word in content_type for word in _READABLE):
        raise Unsupported(
            f"A body of type '{content_type[:80]}' is not read here.",
            hint="Send application/json or application/yaml.",
        )
    return body.parse_all(await read(request, limit), content_type)


async def document(request: Request, limit: int = body.MAX_BYTES) -> Any:
    """The one document of the body."""
    found = await documents(request, limit)
    if len(found) != 1:
        raise Malformed(f"The body holds {len(found)} documents; one was expected.")
    return found[0]


def answer(
    document: Any, status: int = 200, headers: dict[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """A JSON answer, without a second pass over the document. It ends its line: curl adds nothing before the next prompt."""
    return Response(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE), status, headers, media_type)


def etag(resource: Resource) -> dict[str, str]:
    """The header that names this version of the resource."""
    return {"ETag": f'"{resource.meta.version}"'}


def principal(request: HTTPConnection) -> Principal:
    """Who asks, as the API found out before the route was called."""
    found: Principal = request.state.principal
    return found


def check(request: HTTPConnection, verb: Verb, kind: str, project: str | None, name: str | None = None) -> None:
    """Raises Forbidden unless who asks may do `verb` to `kind` in `project` (see `kernel.auth.allowed`)."""
    require(principal(request), verb, kind, project, name)
