"""Heads of requests that were seen before: finding one whole costs less than parsing it again.

A client on a kept connection sends the same request line and headers with every request. What the parser made of them is kept
by their very bytes; a request that comes in one piece under a known head needs no parser. Only plain heads are kept: HTTP/1.1, a
body of stated length or none, a connection that stays open, and no header whose value changes from request to request.
"""

from mlaas.modelserver.http.message import HttpRequest

_END = b"\r\n\r\n"
_MOST = 1024  # heads; all are forgotten when there are more
_LONGEST = 2048  # bytes of one
_REPEATED = frozenset(
    (
        b"accept", b"accept-encoding", b"accept-language", b"authorization", b"connection", b"content-encoding",
        b"content-length", b"content-type", b"host", b"inference-header-content-length", b"mlaas-project", b"user-agent",
    )
)  # fmt: skip


class Heads:
    """What is kept, for all connections of a port."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[HttpRequest, int]] = {}

    def find(self, data: memoryview, store: bytearray, size: int) -> HttpRequest | None:
        """The request that the first `size` bytes of `store` are, exactly; None where its head is not known. `data` is a view of
        the same bytes."""
        end = store.find(_END, 0, size)
        found = self._known.get(bytes(data[:end]))
        if found is None or end + 4 + found[1] != size:
            return None
        known = found[0]
        request = HttpRequest(known.method, known.path, known.query, known.headers, "1.1")
        request.body = bytes(data[end + 4 : size])
        return request

    def add(self, request: HttpRequest, length: int, store: bytearray, size: int) -> None:
        """Keep the head of a request that the parser read, with a body of `length` bytes, from the first `size` bytes of
        `store` and nothing else."""
        end = store.find(_END, 0, size)
        if (
            not 0 < end <= _LONGEST
            or end + 4 + length != size  # there was more than this request
            or request.version != "1.1"
            or not request.keep_alive
            or not request.headers.keys() <= _REPEATED
            or store.count(b"\n", 0, end) != store.count(b"\r\n", 0, end)  # what ends a line is not in doubt
        ):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        known = HttpRequest(request.method, request.path, request.query, request.headers, request.version)
        self._known[bytes(store[:end])] = known, length
