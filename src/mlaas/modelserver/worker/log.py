"""What a worker prints: the last lines in memory for its status, and a bounded file where one is wanted."""

import asyncio
import logging
import os
from collections import deque
from pathlib import Path
from typing import BinaryIO

_logger = logging.getLogger("mlaas.worker")
LINES = 200
"""Lines kept for the status."""
_LONGEST = 4096
_FILE = 4 << 20  # bytes after which the file is moved to `.1` and begun anew


class Log:
    """One replica's log, over the restarts of its process. `name` comes before each line in the server's own log."""

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.lines: deque[str] = deque(maxlen=LINES)
        self.total = 0  # lines so far; the last of them are in `lines`
        self._name = name
        self._path = path
        self._rest: dict[int, bytes] = {}
        self._file: BinaryIO | None = None

    def attach(self, handle: int) -> None:
        """Read from the pipe `handle` until its writers are gone."""
        os.set_blocking(handle, False)
        self._rest[handle] = b""
        asyncio.get_running_loop().add_reader(handle, self._readable, handle)

    def _readable(self, handle: int) -> None:
        try:
            data = os.read(handle, 64 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.detach(handle)
            return
        self._write(data)
        *lines, rest = (self._rest[handle] + data).split(b"\n")
        self._rest[handle] = rest[-_LONGEST:]
        for line in lines:
            self._line(line)

    def detach(self, handle: int) -> None:
        """Stop reading, after what is there already."""
        if handle not in self._rest:
            return
        asyncio.get_running_loop().remove_reader(handle)
        try:
            data = os.read(handle, 1 << 20)
        except OSError:
            data = b""
        self._write(data)
        for line in (self._rest.pop(handle) + data).split(b"\n"):
            if line:
                self._line(line)
        os.close(handle)

    def _line(self, line: bytes) -> None:
        text = line[:_LONGEST].decode(errors="replace").rstrip("\r")
        self.lines.append(text)
        self.total += 1
        _logger.info("%s: %s", self._name, text)

    def _write(self, data: bytes) -> None:
        if self._path is None or not data:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
            if self._file.tell() + len(data) > _FILE:
                self._file.close()
                os.replace(self._path, f"{self._path}.1")
                self._file = self._path.open("ab", buffering=0)
            self._file.write(data)
        except OSError as error:  # a full disk must not take the model down
            _logger.warning("%s: its log cannot be written: %s", self._name, error)
            self._path = None

    def close(self) -> None:
        for handle in list(self._rest):
            self.detach(handle)
        if self._file is not None:
            self._file.close()
            self._file = None
