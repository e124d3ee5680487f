"""Memory shared by a front and one worker, for tensors too large for the socket.

One sparse memfd holds two halves, one for each direction; the side that writes into a half also says what of it is in use. Pages
come into being when they are first written and are given back when a half is empty again, so the size costs nothing. It has no
name in the file system: nothing is left behind when both sides are killed.
"""

import mmap
import os
from bisect import insort

HALF = 4 << 30
"""Bytes of one direction. What does not fit goes through the socket."""
_PAGE = 4096
_KEPT = 32 << 20  # pages of an empty half that are kept, because writing into present pages is quicker


def create() -> int:
    """The descriptor of a new arena."""
    handle = os.memfd_create("mlaas-tensors", os.MFD_CLOEXEC)
    os.ftruncate(handle, 2 * HALF)
    return handle


class Arena:
    """The mapped memory. `mine` is the half that this side writes: 0 for the front, 1 for the worker."""

    def __init__(self, handle: int, mine: int) -> None:
        self._map = mmap.mmap(handle, 2 * HALF)
        self.view = memoryview(self._map)
        self._start = mine * HALF
        self._free: list[tuple[int, int]] = [(0, HALF)]  # (offset, size), by offset, never adjacent
        self._used: dict[int, int] = {}
        self._high = 0

    def put(self, data: bytes | memoryview) -> int | None:
        """Copy `data` into this side's half; its place in the arena, None when there is no room."""
        size = -(-len(data) // _PAGE) * _PAGE
        index = next((i for i, (_, room) in enumerate(self._free) if room >= size), None)
        if index is None:
            return None
        offset, room = self._free[index]
        if room == size:
            del self._free[index]
        else:
            self._free[index] = (offset + size, room - size)
        self._used[offset] = size
        self._high = max(self._high, offset + size)
        place = self._start + offset
        self.view[place : place + len(data)] = data
        return place

    def release(self, place: int) -> None:
        """What `put` placed there is no longer needed by the other side."""
        offset = place - self._start
        size = self._used.pop(offset)
        insort(self._free, (offset, size))
        index = self._free.index((offset, size))
        for left in (index, index - 1):
            if left >= 0 and left + 1 < len(self._free):
                (first, length), (second, more) = self._free[left], self._free[left + 1]
                if first + length == second:
                    self._free[left : left + 2] = [(first, length + more)]
        if not self._used and self._high > _KEPT:
            self._map.madvise(mmap.MADV_REMOVE, self._start + _KEPT, self._high - _KEPT)
            self._high = _KEPT

    @property
    def used(self) -> int:
        """Bytes of this side's half that the other side still needs."""
        return sum(self._used.values())

    def close(self) -> None:
        """Unmap, unless arrays still look at the memory: then their end does it."""
        try:
            self.view.release()
            self._map.close()
        except BufferError:
            pass
