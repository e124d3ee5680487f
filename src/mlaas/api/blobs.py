"""Blobs over HTTP: read in ranges, written resumably, always checked against their hash."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from mlaas.api import documentation
from mlaas.api.operations import Operations
from mlaas.api.problem import respond
from mlaas.api.query import ProjectPath
from mlaas.api.references import References
from mlaas.kernel import web
from mlaas.kernel.auth import allowed
from mlaas.kernel.blobs.objects import check_digest
from mlaas.kernel.blobs.upload import Uploads, WrongOffset, parse_range
from mlaas.kernel.context import Context
from mlaas.kernel.errors import NotFound
from mlaas.kernel.resource import NAME, Json

CHUNK = 4 << 20
WRITE = 1 << 20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_OFFSET: Json = {"Upload-Offset": {"description": "Bytes that have come.", "schema": {"type": "string"}}}
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

    def uploads(project: str) -> Uploads:
        return Uploads(context.settings.data / "uploads" / project, context.blobs)  # type: ignore[arg-type]

    @routes.head(
        path,
        operation_id="head_blob",
        **documentation.route(
            "Size of a blob, or how far its upload is (`Upload-Offset`)",
            (200, {"description": "In Content-Length."}),
            errors=(404,),
        ),
    )
    async def head(request: Request, project: ProjectPath, hash: HashPath) -> Response:
        try:
            size = await find(request, project, hash)
        except NotFound as error:
            if re.fullmatch(_HASH["pattern"], hash) is None or NAME.fullmatch(project) is None:
                raise
            return respond(error, {"Upload-Offset": str(await run_in_threadpool(uploads(project).offset, hash))})
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{hash}"', "Content-Length": str(size)}
        return Response(None, 200, headers, "application/octet-stream")

    @routes.put(
        path,
        operation_id="put_blob",
        **documentation.route(
            "Write a blob, at once or in pieces (`Content-Range`)",
            (201, {"description": "Complete, its hash verified."}),
            (202, {"description": "Taken; more is needed from `Upload-Offset` on.", "headers": _OFFSET}),
            errors=(404, 409, 413, 507),
            extra={"requestBody": {"content": _content("")["content"]}},
        ),
    )
    async def put(
        request: Request,
        project: ProjectPath,
        hash: HashPath,
        content_range: Annotated[
            str | None, Header(alias="Content-Range", description="`bytes FIRST-LAST/TOTAL`.", max_length=100)
        ] = None,
    ) -> Response:
        web.check(request, "create", "blob", project, hash)
        await operations.check_project(project)
        check_digest(hash)
        declared = request.headers.get("content-length", "")
        start, _, total = parse_range(content_range, int(declared) if declared.isdecimal() else None)
        pieces = uploads(project)
        if await run_in_threadpool(pieces.complete, hash):
            return Response(status_code=201)
        try:
            await _receive(request, pieces, hash, start, total)
            done = await run_in_threadpool(pieces.finish, hash, total)
        except WrongOffset as error:
            return respond(error, {"Upload-Offset": str(error.offset)})
        if done:
            return Response(status_code=201)
        return Response(status_code=202, headers={"Upload-Offset": str(await run_in_threadpool(pieces.offset, hash))})

    return routes


async def _receive(request: Request, pieces: Uploads, digest: str, start: int, total: int) -> None:
    """Append the body as it comes, in writes of about a megabyte."""
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= WRITE:
            start = await run_in_threadpool(pieces.append, digest, bytes(waiting), start, total)
            waiting.clear()
    if waiting:
        await run_in_threadpool(pieces.append, digest, bytes(waiting), start, total)


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
