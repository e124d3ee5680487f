"""What of a request's headers travels on: W3C trace context (w3.org/TR/trace-context), Zipkin's B3, the request's id."""

import re
import secrets

_FORWARDED = (b"x-request-id", b"traceparent", b"tracestate", b"authorization")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_PLAIN = frozenset(
    (b"host", b"user-agent", b"accept", b"content-length", b"content-type", b"accept-encoding", b"connection")
)


def forwarded(headers: dict[bytes, bytes]) -> dict[str, str] | None:
    """The headers that a request to a further model carries, by lower-case name; all that the client made up itself too (a
    sticky header of a canary may be any). None where there is nothing but what every client sends."""
    if headers.keys() <= _PLAIN:
        return None
    found = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name in _FORWARDED or name.startswith((b"x-", b"ce-", b"mlaas-"))
    }
    return found or None


def continued(traceparent: bytes) -> bytes | None:
    """The `traceparent` of the answer: the same trace, a span of this server. None where the one sent is not valid."""
    if _TRACEPARENT.fullmatch(traceparent) is None:
        return None
    _, trace, _, flags = traceparent.split(b"-")[:4]
    return b"00-" + trace + b"-" + secrets.token_hex(8).encode() + b"-" + flags
