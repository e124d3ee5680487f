"""The log of a replica: the bytes as written, in segments. Standard library only (the shim uses it).

The first segment is `log`, later ones `log.START` where START is the offset of their first byte in the whole log. Nothing is
ever renamed or cut, so a reader at any offset is never disturbed.
"""

import os

SEGMENT = 64 << 20
_NAME = "log"


def segments(folder: str) -> list[tuple[int, str]]:
    """(offset of the first byte, path), in order."""
    found = []
    for name in os.listdir(folder):
        head, _, start = name.partition(".")
        if head == _NAME and (not start or start.isdigit()):
            found.append((int(start or 0), os.path.join(folder, name)))
    return sorted(found)


def size(folder: str) -> int:
    """Bytes of the whole log."""
    try:
        start, path = segments(folder)[-1]
        return start + os.stat(path).st_size
    except (IndexError, FileNotFoundError):
        return 0


def read(folder: str, offset: int, limit: int = 1 << 18) -> bytes:
    """Up to `limit` bytes from `offset` on; empty at the end."""
    try:
        found = segments(folder)
    except FileNotFoundError:
        return b""
    for start, path in reversed(found):
        if start <= offset:
            with open(path, "rb", buffering=0) as file:
                file.seek(offset - start)
                return file.read(limit)
    return b""


class Writer:
    """Appends to the log. A full disk costs bytes, never the task: what was lost is said in the log once it can be."""

    def __init__(self, folder: str, segment: int = SEGMENT) -> None:
        self._folder = folder
        self._limit = segment
        self._lost = 0
        try:
            self._start, path = segments(folder)[-1]
        except IndexError:
            self._start, path = 0, os.path.join(folder, _NAME)
        self._open(path)

    def _open(self, path: str) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._length = os.fstat(self._handle).st_size

    def write(self, content: bytes) -> None:
        try:
            if self._length >= self._limit:
                self._rotate()
            if self._lost:
                notice = f"\n[{self._lost} bytes of the log were lost: the disk was full]\n".encode()
                self._length += os.write(self._handle, notice)
                self._lost = 0
            while content:
                written = os.write(self._handle, content)
                self._length += written
                content = content[written:]
        except OSError:
            self._lost += len(content)

    def _rotate(self) -> None:
        start = self._start + self._length
        before = self._handle
        self._open(os.path.join(self._folder, f"{_NAME}.{start}"))
        self._start = start
        os.close(before)
