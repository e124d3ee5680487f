"""The worker's end of the socket, and the inputs in shared memory that its model still looks at."""

import socket
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.worker import frames
from mlaas.modelserver.worker.arena import Arena

_CHUNK = 256 << 10


class Channel:
    """Frames in and out. When the front is gone, this process has nothing to live for: it ends at once."""

    def __init__(self, handle: int, arena: int) -> None:
        self.socket = socket.socket(fileno=handle)
        self.arena = Arena(arena, 1)
        self._splitter = frames.Splitter()
        self._ready: deque[frames.Frame] = deque()
        self._held: dict[int, list[NDArray[Any]]] = {}

    def read(self) -> frames.Frame:
        """The next frame; blocks. Raises EOFError when the front is gone."""
        while not self._ready:
            self._receive(0)
        return self._ready.popleft()

    def poll(self) -> list[frames.Frame]:
        """The frames that have come; does not block."""
        try:
            self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        found = list(self._ready)
        self._ready.clear()
        return found

    def put_back(self, found: Sequence[frames.Frame]) -> None:
        """Frames for a later `read`, in their order."""
        self._ready.extendleft(reversed(found))

    def _receive(self, flags: int) -> None:
        data = self.socket.recv(_CHUNK, flags)
        if not data:
            raise EOFError
        for frame in self._splitter.feed(data):
            if frame.kind == frames.RELEASE:
                for place in frames.read_release(frame.body):
                    self.arena.release(place)
            else:
                self._ready.append(frame)

    def write(self, data: bytes | bytearray) -> None:
        self.socket.sendall(data)

    def settle(self, call: int, arrays: list[NDArray[Any]]) -> bool:
        """Whether nobody but `arrays` looks at a call's shared inputs any more; else they are held until `sweep` finds so."""
        if _unseen(arrays):
            return True
        self._held[call] = arrays
        return False

    def sweep(self) -> None:
        """Release the inputs that the model let go of since."""
        for call in [call for call, arrays in self._held.items() if _unseen(arrays)]:
            del self._held[call]
            self.write(frames.release(call))


def _unseen(arrays: list[NDArray[Any]]) -> bool:
    """A view of an array, a tensor of torch over it, ... hold a reference to the array that holds the buffer."""
    for i in range(len(arrays)):
        if sys.getrefcount(arrays[i]) > 2:  # the list's and the argument's
            return False
        owner = arrays[i].base
        if isinstance(owner, np.ndarray) and sys.getrefcount(owner) > 3:  # the array's, this name's and the argument's
            return False
    return True
