"""The model server of this machine, as the engine sees it: how it is started, and its administration socket.

It is a workload like any other, so it outlives the platform, and a platform that has just started finds it by its socket. What
it serves lies on this disk: what does not yet is fetched into the cache first.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlaas.engines.local.environment import PACKAGE_ROOT
from mlaas.engines.local.hints import socket_folder
from mlaas.engines.local.mounts import Fetch
from mlaas.kernel.channel import Channel
from mlaas.kernel.errors import Error, Invalid, Unavailable
from mlaas.kernel.workload import Mount, Resources, Role, WorkloadSpec

_FETCH_AGAIN = 30.0
"""Seconds before what could not be fetched is tried again."""


def admin_path(data: Path) -> str:
    """The administration socket of the model server of this data folder."""
    return str(Path(socket_folder(data)) / "models")


def running(data: Path) -> bool:
    """Whether a model server of this data folder answers."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(admin_path(data))
    except OSError:
        return False
    return True


class ModelServer:
    """`admin` is the path of the administration socket, `models` the folder that fetched models lie in."""

    def __init__(
        self, admin: str, models: Path, host: str, http: int, grpc: int, fetch: Fetch | None, access_log: bool = False
    ) -> None:
        self._admin = admin
        self._models = models
        self._host, self._http, self._grpc = host, http, grpc
        self._fetch = fetch
        self._access_log = access_log
        self.publish: Callable[[list[str]], Awaitable[None]] | None = None
        """Takes the events that services log to `bus://`."""
        self._channel: Channel | None = None
        self._connecting = asyncio.Lock()
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, Error]] = {}  # until when it is not tried again, and why
        self._served: dict[tuple[str, str], dict[str, Any]] = {}  # as it was given to the server last

    def workload(self, whole: Resources) -> WorkloadSpec:
        """What runs it: started again for ever, beside the accounted workloads, for it takes what requests make it take, up to
        the whole machine."""
        command = [sys.executable, "-m", "mlaas.modelserver.parent", "--host", self._host, "--port", str(self._http)]
        command += ["--grpc-port", str(self._grpc), "--admin", self._admin]
        command += ["--access-log"] if self._access_log else []
        # The very code that this platform runs, also from a checkout: a child's environment is not inherited.
        env = {"PYTHONPATH": PACKAGE_ROOT, "MLAAS_CACHE": str(self._models.parent)}
        role = Role(name="server", command=command, env=env, resources=Resources(cpu=whole.cpu, memory=whole.memory))
        return WorkloadSpec(roles=[role], mode="server", grace=15.0)

    def addresses(self) -> dict[str, str]:
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        return {"http": f"http://{shown}:{self._http}", "grpc": f"{shown}:{self._grpc}"}

    async def apply(self, table: dict[str, Any]) -> dict[tuple[str, str], str]:
        """Give the server the table, as far as its sources are on this disk; the others are fetched meanwhile, each service for
        itself, and what they served before goes on. Raises Unavailable while the server does not answer, and what it refuses.
        """
        channel = await self._connected()
        waiting: dict[tuple[str, str], str] = {}
        services: list[dict[str, Any]] = []
        for service in table.get("services", []):
            key = (service["project"], service["name"])
            try:
                services.append(self._localise(service))
            except Error as error:
                waiting[key] = error.message
                if key in self._served:
                    services.append(self._served[key])
        await channel.ask("apply", table={**table, "services": services})
        self._served = {(service["project"], service["name"]): service for service in services}
        return waiting

    async def admit(self, admission: dict[str, Any]) -> None:
        """Change the tokens and the domain of the table, and nothing else."""
        await (await self._connected()).ask("admit", timeout=10.0, admission=admission)

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = await (await self._connected()).ask("status", timeout=10.0)
        return found

    async def tails(self, project: str, name: str) -> dict[str, Any]:
        """Of all fronts; where there are several, each process begins with its front's number."""
        fronts: list[dict[str, Any]] = await (await self._connected()).ask("tails", project=project, name=name)
        if len(fronts) == 1:
            return fronts[0]
        return {f"{front}/{key}": tail for front, tails in enumerate(fronts) for key, tail in tails.items()}

    async def close(self) -> None:
        for task in self._fetches.values():
            task.cancel()
        if self._channel is not None:
            await self._channel.close()

    async def _connected(self) -> Channel:
        async with self._connecting:
            if self._channel is None or self._channel.closed.is_set():
                try:
                    streams = await asyncio.open_unix_connection(self._admin)
                except OSError:
                    raise Unavailable("The model server does not run yet.") from None
                channel = self._channel = Channel(*streams, self._asked)
                there = await channel.ask("table", timeout=10.0) or {}  # what an earlier platform gave it goes on
                self._served = {(each["project"], each["name"]): each for each in there.get("services", [])}
            return self._channel

    async def _asked(self, op: str, arguments: dict[str, Any]) -> None:
        """What the server asks: that the platform takes events."""
        if op != "events" or self.publish is None:
            raise Invalid(f"The platform answers no '{op}'.")
        await self.publish(arguments["events"])

    def _localise(self, value: Any) -> Any:
        """The same with every source on this disk. Raises Unavailable for what is on its way, and why what failed did."""
        if isinstance(value, list):
            return [self._localise(item) for item in value]
        if not isinstance(value, dict):
            return value
        found = {key: self._localise(item) for key, item in value.items()}
        if isinstance(found.get("source"), str) and found["source"]:
            found["source"] = self._on_disk(found["source"], str(found.get("hash", "")))
        return found

    def _on_disk(self, uri: str, hash: str) -> str:
        if urlsplit(uri).scheme in ("", "file"):
            return uri
        if self._fetch is None:
            raise Invalid(f"'{uri}' cannot be fetched here.", field="model")
        name = hashlib.sha256(f"{uri} {hash}".encode()).hexdigest()[:32]
        target = self._models / name
        if target.exists():
            return str(target)
        until, error = self._failed.get(name, (0.0, None))
        if name not in self._fetches and time.monotonic() >= until:
            task = asyncio.get_running_loop().create_task(self._fetched(name, uri, hash, target))
            self._fetches[name] = task
            task.add_done_callback(lambda _: self._fetches.pop(name, None))
        raise error or Unavailable(f"'{uri}' is being fetched.")

    async def _fetched(self, name: str, uri: str, hash: str, target: Path) -> None:
        try:
            await asyncio.to_thread(self._bring, uri, hash, target)
            self._failed.pop(name, None)
        except Error as error:
            self._failed[name] = (time.monotonic() + _FETCH_AGAIN, error)
        except Exception as error:
            failure = Unavailable(f"'{uri}' cannot be fetched: {type(error).__name__}: {error}")
            self._failed[name] = (time.monotonic() + _FETCH_AGAIN, failure)

    def _bring(self, uri: str, hash: str, target: Path) -> None:
        assert self._fetch is not None
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        self._models.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(partial)
        try:
            self._fetch(Mount(path="model", uri=uri, hash=hash), partial)
            partial.rename(target)
        except Error:
            raise
        except OSError as error:
            raise Unavailable(f"'{uri}' cannot be fetched: {error.strerror or error}.") from None
