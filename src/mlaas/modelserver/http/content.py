"""Content codings: `gzip` and `deflate`, both ways (RFC 9110, 8.4.1; `deflate` with or without the zlib header, for
clients differ)."""

import asyncio
import zlib
from collections.abc import Awaitable

from mlaas.kernel.errors import Malformed, TooLarge, Unsupported
from mlaas.modelserver.http.api import Call
from mlaas.modelserver.http.message import HttpRequest, Reply

_SMALL = 1 << 18  # bytes that are worked on in the event loop


def content(call: Call) -> bytes | bytearray | Awaitable[bytes]:
    """The body without its content coding; to be awaited when it is large and compressed.

    Raises Unsupported for another coding, Malformed for broken data, TooLarge for a body that grows over the limit.
    """
    request = call.request
    coding = request.headers.get(b"content-encoding")
    if coding is None:
        return request.body
    word = coding.strip().lower()
    if word in (b"", b"identity"):
        return request.body
    if word not in (b"gzip", b"x-gzip", b"deflate"):
        raise Unsupported(
            f"The content coding {word.decode('latin-1')[:40]!r} is not read; gzip and deflate are.",
        )
    limit = call.api.limits.body_bytes
    if len(request.body) > _SMALL:
        return asyncio.to_thread(decompress, request.body, word, limit)
    return decompress(request.body, word, limit)


def decompress(data: bytes | bytearray, coding: bytes, limit: int) -> bytes:
    """The bytes that were compressed. Stops as soon as they are more than `limit`: a small body may claim to be a huge one."""
    if coding != b"deflate":
        window = 31
    elif len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0:
        window = 15
    else:
        window = -15
    parts: list[bytes] = []
    size = 0
    rest: bytes | bytearray = data
    while rest:
        stream = zlib.decompressobj(window)
        try:
            part = stream.decompress(rest, limit - size + 1)
            size += len(part)
            parts.append(part)
            if size > limit:
                raise TooLarge(f"The body is larger than the {limit:,} bytes that are accepted, once decompressed.")
        except zlib.error as error:
            raise Malformed(f"The body is no valid {coding.decode()} data: {error}.") from None
        if not stream.eof:
            raise Malformed(f"The {coding.decode()} data of the body is cut off.")
        rest = stream.unused_data if window == 31 else b""  # gzip: members may follow one another
    return b"".join(parts)


def encoded(request: HttpRequest, reply: Reply) -> Reply | Awaitable[Reply]:
    """The reply, compressed where the client asks for one coding by name or has compressed its own body.

    A client that merely lists what it could read (`gzip, deflate, br`) gets plain bytes: compressing costs more than sending.
    """
    accepted = request.headers.get(b"accept-encoding")
    if accepted is None:
        return reply
    wanted = accepted.strip().lower()
    if wanted not in (b"gzip", b"deflate"):
        if b"content-encoding" not in request.headers:
            return reply
        wanted = next((word for word in (b"gzip", b"deflate") if word in wanted), b"")
        if not wanted:
            return reply
    if reply.length > _SMALL:
        return asyncio.to_thread(_compress, reply, wanted)
    return _compress(reply, wanted)


def _compress(reply: Reply, coding: bytes) -> Reply:
    stream = zlib.compressobj(1, zlib.DEFLATED, 31 if coding == b"gzip" else 15)
    parts = [stream.compress(reply.body)]
    parts += [stream.compress(part) for part in reply.parts or ()]
    parts.append(stream.flush())
    headers = (*reply.headers, (b"content-encoding", coding), (b"vary", b"accept-encoding"))
    return Reply(b"".join(parts), reply.status, reply.content_type, headers)
