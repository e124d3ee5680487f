"""News from the shims: datagrams to the platform's socket, and the end of a shim's process (pidfd). Both are only hints."""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mlaas.kernel.settings import runtime_folder


def socket_folder(data: Path) -> str:
    """The short folder for the sockets of a data folder."""
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    return str(runtime_folder() / f"mlaas-{os.getuid()}-{name}")


class Hints:
    """Spreads uids to all who listen. A uid waits at most once per listener."""

    def __init__(self, data: Path) -> None:
        self.path = f"{socket_folder(data)}/hints"
        self._socket: socket.socket | None = None
        self._listeners: list[dict[str, None]] = []
        self._news = asyncio.Event()
        self._watched: dict[tuple[int, int], int] = {}

    def open(self) -> None:
        """Listen. The socket's folder is readable by nobody else."""
        folder = os.path.dirname(self.path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(folder).st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for handle in self._watched.values():
            loop.remove_reader(handle)
            os.close(handle)
        self._watched.clear()
        if self._socket:
            loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def watch(self, uid: str, shim: dict[str, Any]) -> None:
        """Give a hint when this shim's process ends, however it does."""
        key = (int(shim["pid"]), int(shim["ticks"]))
        if key in self._watched or self._socket is None:
            return
        try:
            handle = os.pidfd_open(key[0])
        except OSError:
            self.give(uid)
            return
        self._watched[key] = handle
        asyncio.get_running_loop().add_reader(handle, self._ended, key, uid)

    def _ended(self, key: tuple[int, int], uid: str) -> None:
        handle = self._watched.pop(key)
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
        self.give(uid)

    def _receive(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self.give(self._socket.recv(512).decode(errors="replace"))

    def give(self, uid: str) -> None:
        for waiting in self._listeners:
            waiting[uid] = None
        self._news.set()

    async def listen(self) -> AsyncIterator[str]:
        waiting: dict[str, None] = {}
        self._listeners.append(waiting)
        try:
            while True:
                while waiting:
                    uid = next(iter(waiting))
                    del waiting[uid]
                    yield uid
                self._news.clear()
                await self._news.wait()
        finally:
            self._listeners.remove(waiting)
