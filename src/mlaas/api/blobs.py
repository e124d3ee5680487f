"""Blobs over HTTP: read in ranges, written resumably, always checked against their hash."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from mlaas.api import documentation
from mlaas.api.operations import Operations
from mlaas.api.query import ProjectPath
from mlaas.api.references import References
from mlaas.kernel import web
from mlaas.kernel.auth import allowed
from mlaas.kernel.context import Context
from mlaas.kernel.errors import NotFound
from mlaas.kernel.resource import Json

CHUNK = 4 << 20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_HASH: Json = {"pattern": "^[0-9a-f]{64}$"}

HashPath = Annotated[str, Path(description="SHA-256 of the content, in hexadecimal.", json_schema_extra=_HASH)]


def router(context: Context) -> APIRouter:
    routes = APIRouter(tags=["blobs"])
    references = References(context)
    operations = Operations(context)
    path = "/api/v1/projects/{project}/blobs/{hash}"

    async def find(request: Request, project: str, digest: str) -> int:
        """The blob's size. Raises NotFound for what the caller may not read through any resource, as for what is not there."""
        missing = NotFound(
            f"No resource of project '{project[:80]}' refers to a blob '{digest[:80]}'.",
            hint="A blob is readable through a resource that names its hash in its status.",
        )
        if re.fullmatch(_HASH["pattern"], digest) is None:
            raise missing
        principal = web.principal(request)
        if not (principal.workload and allowed(principal, "get", "blob", project, digest)):
            web.check(request, "get", "blob", project, digest)
            await operations.check_project(project)
            if not await references.holds(project, digest):
                raise missing
        size = await run_in_threadpool(context.blobs.size, digest)
        if size is None:
            raise missing
        return size

    @routes.get(
        path,
        operation_id="get_blob",
        **documentation.route(
            "Read a blob",
            (200, _content("The whole content.")),
            (206, _content("The range that was asked for.")),
            errors=(404, 416),
        ),
    )
    async def get(
        request: Request,
        project: ProjectPath,
        hash: HashPath,
        range: Annotated[str | None, Header(description="`bytes=FIRST-LAST`.", max_length=100)] = None,
    ) -> Response:
        size = await find(request, project, hash)
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{hash}"', "X-Content-Type-Options": "nosniff"}
        headers["Content-Disposition"] = "attachment"
        part = _part(range, size)
        if part is None:
            return StreamingResponse(
                _read(context, hash, 0, size),
                200,
                {**headers, "Content-Length": str(size)},
                "application/octet-stream",
            )
        start, end = part
        if start >= end:
            return Response(
                status_code=416, headers={"Content-Range": f"bytes */{size}"}, media_type=documentation.PROBLEM
            )
        headers |= {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        return StreamingResponse(_read(context, hash, start, end), 206, headers, "application/octet-stream")

    @routes.head(
        path,
        operation_id="head_blob",
        **documentation.route("Size of a blob", (200, {"description": "In Content-Length."}), errors=(404,)),
    )
    async def head(request: Request, project: ProjectPath, hash: HashPath) -> Response:
        size = await find(request, project, hash)
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{hash}"', "Content-Length": str(size)}
        return Response(None, 200, headers, "application/octet-stream")

    return routes


def _content(description: str) -> Json:
    binary = {"type": "string", "format": "binary"}
    return {"description": description, "content": {"application/octet-stream": {"schema": binary}}}


def _part(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header asks for (RFC 9110, section 14.1.2); None: all. Empty: not satisfiable."""
    found = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if found is None or found[0] == "bytes=-":
        return None  # another unit, or several ranges: the whole may be sent
    first, last = found[1], found[2]
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


async def _read(context: Context, digest: str, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        stop = min(start + CHUNK, end)
        yield await run_in_threadpool(_slice, context, digest, start, stop)
        start = stop


def _slice(context: Context, digest: str, start: int, end: int) -> bytes:
    return context.blobs.get(digest, start=start, end=end)
