"""HTTP/2 frames (RFC 9113): constants, errors, and the bytes of those that a server sends."""

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

WINDOW_LIMIT = (1 << 31) - 1
DEFAULT_WINDOW = 65535
DEFAULT_FRAME_SIZE = 16384

HEAD = Struct(">HBBBI")
"""A frame's head: length (upper 16 bits, lower 8 bits), kind, flags, stream."""

SETTING = Struct(">HI")
_WORD = Struct(">I")
_TWO_WORDS = Struct(">II")


class Reason(IntEnum):
    """The error codes of RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke the connection's rules: it gets a GOAWAY with the reason and is left."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class StreamFault(Exception):
    """The peer broke one stream's rules: it gets a RST_STREAM, the connection goes on."""

    def __init__(self, stream: int, reason: Reason) -> None:
        super().__init__(f"{reason.name} on stream {stream}")
        self.stream = stream
        self.reason = reason


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in values.items()))


def rst_stream(stream: int, reason: Reason) -> bytes:
    return frame(RST_STREAM, 0, stream, _WORD.pack(reason))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def goaway(last: int, reason: Reason, text: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _TWO_WORDS.pack(last, reason) + text.encode()[:256])


SETTINGS_ACK = frame(SETTINGS, ACK, 0)
