"""A model server of ours without a platform: a parent and one front, driven over the administration socket."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from mlaas.kernel.channel import Channel
from mlaas.kernel.errors import Unavailable
from peers.servers import SERVER_CORE, SOURCES


class Server:
    """Started on core 0 with an empty serving table; `async with`."""

    def __init__(self, folder: Path) -> None:
        self._admin = folder / "admin.sock"
        self._cache = folder / "cache"

    async def __aenter__(self) -> "Server":
        env = {**os.environ, "PYTHONPATH": str(SOURCES), "MLAAS_CACHE": str(self._cache)}
        command = [sys.executable, "-m", "mlaas.modelserver.parent", "--port", "0", "--admin", str(self._admin)]
        self._process = await asyncio.create_subprocess_exec(
            "taskset", "-c", SERVER_CORE, *command, stdout=asyncio.subprocess.PIPE, env=env, start_new_session=True
        )
        await asyncio.to_thread(_until_there, self._admin)
        self._channel = Channel(*await asyncio.open_unix_connection(self._admin), _nothing)
        for _ in range(3000):
            if await self._up():
                break
            await asyncio.sleep(0.02)
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()  # ready at http://127.0.0.1:PORT, ...
        self.port = int(line.split()[2].rstrip(",").rpartition(":")[2])
        self.pid = int((await self.status())["fronts"][0]["pid"])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def _up(self) -> bool:
        """Give it the empty table, once there is a front that takes it."""
        try:
            await self.apply([])
        except Unavailable:
            return False
        return True

    async def apply(self, services: list[dict[str, Any]], **more: Any) -> None:
        """Serve these; returns when all are ready (one that is loaded on its first use is at once)."""
        await self._channel.ask("apply", table={"services": services, **more})
        for _ in range(3000):
            if all(service["ready"] for service in (await self.status())["services"]):
                return
            await asyncio.sleep(0.1)
        raise SystemExit(f"The models do not get ready: {await self.status()}")

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._channel.ask("status")
        return found

    def private(self) -> int:
        """Bytes of the front that no other process shares."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


class Client:
    """One connection that sends prepared requests, one after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def milliseconds(self, request: bytes) -> float:
        """Until the whole answer is there. Raises AssertionError for one that is not 200."""
        began = time.perf_counter()
        self._socket.sendall(request)
        answer = self._socket.recv(1 << 16)
        spent = time.perf_counter() - began
        assert answer.startswith(b"HTTP/1.1 200"), answer.decode(errors="replace")
        return 1e3 * spent

    def close(self) -> None:
        self._socket.close()


def request(model: str, tensor: dict[str, Any]) -> bytes:
    """A V2 inference request whose answer fits one packet."""
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _until_there(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


async def _nothing(op: str, arguments: dict[str, Any]) -> None:
    """The parent asks nothing of its administrator."""
