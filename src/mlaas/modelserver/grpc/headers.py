"""Header blocks. In: HPACK, with a memory for the blocks that a client repeats. Out: literals that use no dynamic table, so that
an answer's headers are constant bytes.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from mlaas.modelserver.dispatch import digest_of_authorization
from mlaas.modelserver.grpc.call import Call, Method
from mlaas.modelserver.grpc.compression import ENCODINGS
from mlaas.modelserver.grpc.frames import ConnectionFault, Reason
from mlaas.modelserver.grpc.hpack import Decoder, HpackError

LIST_LIMIT = 16 * 1024
"""Bytes of a request's header list (names, values and 32 for each), as SETTINGS_MAX_HEADER_LIST_SIZE counts them."""

_DECODE_LIMIT = 16 * LIST_LIMIT  # above LIST_LIMIT the request is refused, above this one the connection
_REMEMBERED = 256
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUES = re.compile(r"[\x00\r\n]")
_FORBIDDEN = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
_PSEUDO = {":method", ":scheme", ":path", ":authority"}
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Route:
    """What a request's header block says. One is shared by all requests with the same block.

    `malformed`: the stream is to be reset. `refused`: the HTTP status for what is no gRPC request. `too_large`: the list is
    above LIST_LIMIT. `timeout` is in seconds; -1 stands for one that cannot be read. `plain`: a unary call about which nothing
    is to be said before its message is there.
    """

    __slots__ = (
        "accepts",
        "call",
        "content_length",
        "encoding",
        "malformed",
        "method",
        "path",
        "plain",
        "refused",
        "timeout",
        "too_large",
        "unary",
    )

    def __init__(self, fields: Iterable[tuple[str, str]], methods: Mapping[str, Method], peer: tuple[str, int]) -> None:
        pseudo: dict[str, str] = {}
        headers: dict[str, str] = {}
        self.malformed = False
        size = 0
        for name, value in fields:
            size += len(name) + len(value) + 32
            if name.startswith(":"):
                self.malformed |= name not in _PSEUDO or name in pseudo or bool(headers)
                pseudo[name] = value
            else:
                self.malformed |= (
                    not _NAME.fullmatch(name)
                    or name in _FORBIDDEN
                    or (name == "te" and value != "trailers")
                    or _FORBIDDEN_IN_VALUES.search(value) is not None
                )
                headers[name] = f"{headers[name]},{value}" if name in headers else value
        self.too_large = size > LIST_LIMIT
        self.path = pseudo.get(":path", "")
        self.malformed |= not (self.path and ":method" in pseudo and ":scheme" in pseudo)
        self.content_length = -1
        if "content-length" in headers:
            length = headers["content-length"]
            self.malformed |= not (length.isascii() and length.isdecimal() and len(length) < 16)
            self.content_length = -1 if self.malformed else int(length)
        self.refused = self._refusal(pseudo, headers)
        self.method = methods.get(self.path)
        self.unary = self.method.unary if self.method else None
        self.timeout = self._seconds(headers.get("grpc-timeout"))
        self.encoding = headers.get("grpc-encoding", "identity")
        self.accepts = headers.get("grpc-accept-encoding", "")
        self.plain = self.unary is not None and not (
            self.refused
            or self.too_large
            or (self.timeout is not None and self.timeout < 0)
            or self.encoding not in ("identity", *ENCODINGS)
        )
        self.call = Call(
            headers,
            digest_of_authorization(headers.get("authorization")),
            headers.get("mlaas-project", ""),
            pseudo.get(":authority", headers.get("host", "")),
            peer=peer,
        )

    @staticmethod
    def _refusal(pseudo: Mapping[str, str], headers: Mapping[str, str]) -> int:
        if pseudo.get(":method") != "POST":
            return 405
        kind = headers.get("content-type", "").lower()
        if kind != "application/grpc" and not kind.startswith(("application/grpc+", "application/grpc;")):
            return 415
        return 0

    @staticmethod
    def _seconds(value: str | None) -> float | None:
        if value is None:
            return None
        match = _TIMEOUT.fullmatch(value)
        return int(match[1]) * _UNITS[match[2]] if match else -1.0


class HeaderReader:
    """Reads one connection's header blocks, in the order they came.

    Raises ConnectionFault for a block that cannot be decoded: nothing can be read on that connection any more.
    """

    def __init__(self, methods: Mapping[str, Method], peer: tuple[str, int] = ("", 0)) -> None:
        self._methods = methods
        self._peer = peer
        self._decoder = Decoder(_DECODE_LIMIT)
        self._known: dict[bytes, Route] = {}

    def route(self, block: bytes) -> Route:
        """The meaning of a request's block."""
        found = self._known.get(block)
        if found is not None:
            return found
        generation = self._decoder.generation
        route = Route(self.fields(block), self._methods, self._peer)
        if self._decoder.generation == generation and len(self._known) < _REMEMBERED:
            self._known[block] = route
        return route

    def fields(self, block: bytes) -> list[tuple[str, str]]:
        """Names and values."""
        generation = self._decoder.generation
        try:
            found = self._decoder.decode(block)
        except HpackError as error:
            raise ConnectionFault(Reason.COMPRESSION_ERROR, f"a header block: {error}") from error
        if self._decoder.generation != generation:
            self._known.clear()  # the same bytes may mean something else from now on
        return found


# -- what is sent -----------------------------------------------------------------------------------------------------

_STATUS = {200: b"\x88", 400: b"\x8c", 404: b"\x8d", 500: b"\x8e"}


def literal(name: str, value: str) -> bytes:
    """A field as a literal that no table remembers."""
    return b"\x00" + _string(name.encode()) + _string(value.encode("latin-1", "replace"))


def _string(data: bytes) -> bytes:
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    encoded = bytearray((127,))
    rest = size - 127
    while rest >= 128:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded) + data


def status(code: int) -> bytes:
    """`:status`."""
    return _STATUS.get(code) or b"\x08" + _string(str(code).encode())


CONTENT_TYPE = b"\x0f\x10" + _string(b"application/grpc")
INITIAL = status(200) + CONTENT_TYPE
"""The header block that opens an answer."""

INITIAL_COMPRESSED = {
    encoding: INITIAL + literal("grpc-encoding", encoding) + literal("grpc-accept-encoding", "identity,deflate,gzip")
    for encoding in ("gzip", "deflate")
}


def trailers(code: int, text: str = "", fields: Mapping[str, str] | None = None) -> bytes:
    """The header block that ends an answer. The text is percent-encoded as gRPC asks."""
    block = literal("grpc-status", str(int(code)))
    if text:
        block += literal("grpc-message", quote(text[:2000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))
    for name, value in (fields or {}).items():
        block += literal(name, value)
    return block


OK_TRAILERS = trailers(0)
