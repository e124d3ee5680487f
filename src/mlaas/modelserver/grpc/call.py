"""What a transport and the methods exchange: a call, and what a method is. Methods see bytes and know nothing of HTTP/2."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from mlaas.modelserver.grpc.codec import Buffer, Parts


@dataclass(slots=True, eq=False)
class Call:
    """One call as its transport saw it: the caller's metadata (lower-case names), the digest of its bearer token, the project it
    named, the authority it asked, its deadline in seconds of `time.monotonic()`, and the address and port it calls from."""

    headers: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    project: str = ""
    authority: str = ""
    deadline: float | None = None
    peer: tuple[str, int] = ("", 0)


Unary = Callable[[Buffer, Call], Parts | Awaitable[Parts]]
"""One message in, the parts of one message out: at once, or to be awaited. Raises kernel errors."""

Streaming = Callable[[AsyncIterator[Buffer], Call], AsyncGenerator[Parts, None]]
"""Messages in, messages out, until the iterator ends. Raises kernel errors."""


@dataclass(frozen=True, slots=True)
class Method:
    """One of the two is set."""

    unary: Unary | None = None
    streaming: Streaming | None = None
