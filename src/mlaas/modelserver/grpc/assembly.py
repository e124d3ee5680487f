"""gRPC messages out of a stream's bytes: a byte that says whether it is compressed, its length in four, the message."""

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.grpc.codec import Buffer
from mlaas.modelserver.grpc.compression import too_large


class Assembler:
    """Bytes in, whole messages out. A message's memory is asked for at once but taken page by page, as its bytes come: a client
    that announces much and sends nothing costs nothing."""

    __slots__ = ("_compressed", "_filled", "_limit", "_prefix", "_target")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._prefix = b""
        self._target: memoryview | None = None
        self._filled = 0
        self._compressed = False

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun that is not whole."""
        return self._target is not None or self._prefix != b""

    def feed(self, data: bytes, start: int, stop: int) -> list[tuple[bool, Buffer]]:
        """The messages that `data[start:stop]` completes, each with whether it is compressed.

        Raises TooLarge for one above the limit, Invalid for what is no message.
        """
        whole: list[tuple[bool, Buffer]] = []
        view = memoryview(data)
        while start < stop:
            target = self._target
            if target is None:
                prefix = self._prefix + data[start : min(start + 5 - len(self._prefix), stop)]
                start += len(prefix) - len(self._prefix)
                if len(prefix) < 5:
                    self._prefix = prefix
                    break
                self._prefix = b""
                target = self._begin(prefix)
            size = min(len(target) - self._filled, stop - start)
            target[self._filled : self._filled + size] = view[start : start + size]
            self._filled += size
            start += size
            if self._filled == len(target):
                whole.append((self._compressed, target))
                self._target = None
        return whole

    def _begin(self, prefix: bytes) -> memoryview:
        if prefix[0] > 1:
            raise Invalid("A message's first byte is neither 0 nor 1: this is no gRPC message.")
        size = int.from_bytes(prefix[1:], "big")
        if size > self._limit:
            raise too_large(self._limit)
        self._compressed = prefix[0] == 1
        self._filled = 0
        self._target = np.empty(size, np.uint8).data
        return self._target
