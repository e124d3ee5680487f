"""Compressed messages: gzip (RFC 1952) and deflate (the zlib format, RFC 1950), as gRPC names them."""

import asyncio
import zlib
from collections.abc import Callable
from functools import partial

from mlaas.kernel.errors import Invalid, TooLarge
from mlaas.modelserver.grpc.codec import Buffer, Parts

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
ENCODINGS = tuple(_WINDOW_BITS)
WORTHWHILE = 1024
"""Bytes from which an answer is compressed."""

_INLINE = 32 * 1024  # larger ones go to a thread


async def decompress(payload: Buffer, encoding: str, limit: int) -> bytes:
    """The message. Raises TooLarge above `limit` bytes (without unpacking the rest), Invalid for data that is broken."""
    if encoding not in _WINDOW_BITS:
        raise Invalid(
            "A message is marked as compressed, but grpc-encoding names no compression.", field="grpc-encoding"
        )
    return await _run(partial(_decompress, payload, encoding, limit), len(payload))


def _decompress(payload: Buffer, encoding: str, limit: int) -> bytes:
    engine = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        data = engine.decompress(payload, limit + 1)
    except zlib.error as error:
        raise Invalid(f"The message is no valid {encoding} data.") from error
    if len(data) > limit:
        raise too_large(limit)
    if not engine.eof:
        raise Invalid(f"The message's {encoding} data is cut off.")
    return data


async def compress(parts: Parts, encoding: str) -> bytes:
    return await _run(partial(_compress, parts, encoding), sum(len(part) for part in parts))


def _compress(parts: Parts, encoding: str) -> bytes:
    engine = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS[encoding])
    return b"".join([engine.compress(part) for part in parts] + [engine.flush()])


async def _run(function: Callable[[], bytes], size: int) -> bytes:
    return function() if size <= _INLINE else await asyncio.to_thread(function)


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"A message may have {limit} bytes; this one has more.", hint="Send fewer rows at once.")
