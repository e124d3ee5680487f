"""The platform's side of a fork server: start it, ask it for a shim, replace it when it died."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

_SERVER = str(Path(__file__).with_name("forkserver.py"))
_ANSWER = 5.0  # seconds a fork may take before it is given up
_PATIENCE = 60.0  # seconds before a server that died young is tried again, at most


class ForkServer:
    """One fork server. `modules` are what it imports; with none it runs only the shim's own code and starts at once.

    `state` says in a few words why it can't fork now; empty when it can.
    """

    def __init__(self, modules: list[str], environment: dict[str, str], python: str = sys.executable) -> None:
        self.modules, self.python = modules, python
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._imported = asyncio.Event()
        self.missing: list[str] = []
        self.seconds: float | None = None
        self.state = "starting"

    @property
    def ready(self) -> bool:
        return not self.state

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def open(self) -> None:
        """Start it; imports go on in the background, `ready` tells when they are done."""
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End it. What it forked goes on."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._end()

    async def wait_ready(self, seconds: float) -> bool:
        """Wait until it can fork."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._imported.wait(), seconds)
        return self.ready

    async def fork(self, folder: str) -> bool:
        """Have a shim forked for the attempt in `folder`; False when that could not be done (then nothing was started,
        or what was started will find its attempt claimed)."""
        async with self._lock:
            if self._channel is None or self.state:
                return False
            loop = asyncio.get_running_loop()
            try:
                await loop.sock_sendall(self._channel, folder.encode())
                answer = await asyncio.wait_for(loop.sock_recv(self._channel, 256), _ANSWER)
            except (OSError, TimeoutError):
                answer = b""
            if answer != b"started":
                self.state = "restarting"
                self._gone.set()
                return False
            return True

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            began = time.monotonic()
            try:
                await self._start()
                await self._watch()
            except (OSError, ValueError) as error:
                self.state = f"it did not start: {error}"
            await self._end()
            pause = 0.0 if time.monotonic() - began > _PATIENCE else min(_PATIENCE, pause * 2 + 0.1)
            await asyncio.sleep(pause)

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._gone.clear()
        try:
            flags = [] if self.modules else ["-I", "-S"]
            self._process = await asyncio.to_thread(
                lambda: subprocess.Popen(
                    [self.python, *flags, "-P", _SERVER],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=self._environment,
                    cwd="/",
                    start_new_session=True,
                )
            )
        finally:
            theirs.close()
        ours.setblocking(False)
        self._channel = ours
        self.state = "still loading" if self.modules else "starting"
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(ours, json.dumps(self.modules).encode())
        answer = await loop.sock_recv(ours, 1 << 16)
        if not answer:
            raise OSError("it ended while it imported")
        report = json.loads(answer)
        self.missing, self.seconds = report["missing"], report["seconds"]
        self.state = ""
        self._imported.set()

    async def _watch(self) -> None:
        """Returns when the process has ended or was given up."""
        loop = asyncio.get_running_loop()
        assert self._process is not None
        handle = os.pidfd_open(self._process.pid)
        loop.add_reader(handle, self._gone.set)
        try:
            await self._gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)

    async def _end(self) -> None:
        self.state = self.state or "restarting"
        self._imported.clear()
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        async with self._lock:  # a request under way sees the end of the other side, and lets go of the socket
            if self._channel:
                self._channel.close()
                self._channel = None
        if self._process:
            await asyncio.to_thread(self._process.wait)
            self._process = None
