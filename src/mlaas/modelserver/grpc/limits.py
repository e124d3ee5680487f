"""What one peer may ask of the server, and the budgets that hold it to that."""

from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds. `message` is the largest message taken; `unfinished` is for the messages of all connections together
    that are being received or worked on."""

    message: int = 64 * 1024 * 1024
    unfinished: int = 1024 * 1024 * 1024
    output: int = 256 * 1024 * 1024  # of answers that wait for a slow reader, above which it gets no new ones
    streams: int = 1024  # at once on one connection
    connections: int = 4096
    stream_window: int = 1024 * 1024
    connection_window: int = 16 * 1024 * 1024
    header_block: int = 64 * 1024  # a block as sent, over all its CONTINUATION frames
    preface_timeout: float = 10.0
    frame_timeout: float = 60.0  # without a byte of a frame or a header block that has begun
    keepalive: float = 300.0  # without a byte from the peer, until a PING
    keepalive_timeout: float = 20.0
    stalled: float = 120.0  # for a reader that takes none of what waits for it


class Bucket:
    """A budget of `burst` that refills by `rate` a second."""

    __slots__ = ("_burst", "_left", "_rate", "_when")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._when = monotonic()

    def take(self) -> bool:
        """One of it. False when it is used up."""
        if self._left < 1:
            now = monotonic()
            self._left = min(self._burst, self._left + (now - self._when) * self._rate)
            self._when = now
            if self._left < 1:
                return False
        self._left -= 1
        return True


@dataclass(slots=True)
class Memory:
    """Bytes of messages in the server's hands."""

    limit: int
    held: int = 0
