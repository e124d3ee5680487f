"""The process that holds the listening sockets and keeps N fronts alive on them: `python -m mlaas.modelserver.parent`.

It does no inference, so it does not crash with a model. A front that dies is started again on the same sockets, which never
stop listening: connections that come meanwhile wait in their backlog, none is refused. The serving table is kept here and given
to every front; the memory budget is divided among them; their statistics are summed.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlaas.kernel.channel import Channel, over
from mlaas.kernel.errors import Error, Invalid, Unavailable
from mlaas.kernel.listen import url_of

_log = logging.getLogger("mlaas.modelserver")

ADMISSION = frozenset(("domain", "project_tokens", "service_tokens", "expires"))
"""The keys of a serving table that say who may call what."""
_BACKOFF_MOST = 5.0  # seconds between restarts of a front that dies again and again
_STEADY = 10.0  # seconds after which a front counts as healthy
_GRACE = 10.0  # seconds for requests in flight at the end
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}
"""glibc gives buffers of some megabytes back to the kernel at once, and the next request pays for zeroed pages again: a third of
the time of a large JSON body. So a front keeps up to 32 MB for the next one."""


@dataclass(slots=True, eq=False)
class Front:
    """One front process. `sockets` are its own listening sockets, kept open here over its restarts."""

    number: int
    sockets: list[socket.socket]
    process: asyncio.subprocess.Process | None = None
    channel: Channel | None = None
    restarts: int = 0
    started: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Parent:
    """Fronts on `host`: `http` and `grpc` are ports (0 chooses; None: no gRPC). `arguments` go to each front as they are."""

    def __init__(
        self,
        host: str,
        http: int,
        grpc: int | None,
        workers: int = 1,
        arguments: list[str] | None = None,
        table: dict[str, Any] | None = None,
    ) -> None:
        self._arguments = [*(arguments or []), *(["--several"] if workers > 1 else [])]
        self._table = table
        self._changing = asyncio.Lock()  # of the table: a front that starts meanwhile gets the one after
        self._closing = False
        self.administrators: set[Channel] = set()
        """Who is connected to the administration socket."""
        self._supervisors: list[asyncio.Task[None]] = []
        first = [bind(host, port, workers > 1) for port in (http, grpc) if port is not None]
        self.url = url_of(first[0], host, tls=False)
        self.grpc_port = first[1].getsockname()[1] if len(first) > 1 else None
        self._fronts = [Front(0, first)]
        for number in range(1, workers):
            ports = [sock.getsockname()[1] for sock in first]
            self._fronts.append(Front(number, [bind(host, port, True) for port in ports]))

    async def start(self) -> None:
        """Start the fronts; returns when all of them answer."""
        loop = asyncio.get_running_loop()
        self._supervisors = [loop.create_task(self._supervise(front)) for front in self._fronts]
        ready = loop.create_task(self._all_ready())
        await asyncio.wait([ready, *self._supervisors], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            for task in self._supervisors:
                if task.done():
                    task.result()  # raises why a front cannot start

    async def _all_ready(self) -> None:
        for front in self._fronts:
            await front.ready.wait()

    async def stop(self) -> None:
        """End the fronts; requests in flight are answered for some seconds."""
        self._closing = True
        for front in self._fronts:
            if front.process is not None and front.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    front.process.terminate()
        waits = [front.process.wait() for front in self._fronts if front.process is not None]
        try:
            async with asyncio.timeout(_GRACE + 2):
                await asyncio.gather(*waits)
        except TimeoutError:
            for front in self._fronts:
                if front.process is not None and front.process.returncode is None:
                    front.process.kill()
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        for front in self._fronts:
            for sock in front.sockets:
                sock.close()

    async def settled(self) -> dict[str, Any]:
        """Wait until what the table asks for is loaded or has failed; the status then."""
        await self._ask_all("settled", timeout=3600.0)
        found: dict[str, Any] = await self.answer("status", {})
        return found

    async def answer(self, op: str, arguments: dict[str, Any]) -> Any:
        """The administration's operations, asked by a front, or by whoever reconciles services over the administration socket.

        `apply` (table), `admit` (admission), `status`, `statistics`, `tails` (project, name), `load` and `unload` (project,
        name, parameters), `table`, `events` (payload events of a front's for the administrator's bus).
        """
        if op == "apply":
            return await self._apply(arguments["table"])
        if op == "admit":
            return await self._admit(arguments["admission"])
        if op == "table":
            return self._table
        if op == "status":
            found = await self._ask_all("status")
            revision = (self._table or {}).get("revision", "")
            return merge_status(found) | {
                "revision": revision,
                "fronts": [self._front_status(front) for front in self._fronts],
            }
        if op == "statistics":
            return await self._ask_all("statistics")
        if op == "tails":
            return await self._ask_all("tails", **arguments)
        if op == "events":
            return await self._publish(arguments["events"])
        if op in ("load", "unload"):
            # a load of something new changes the table of all fronts
            answers = await self._ask_all(op, timeout=600.0, **arguments)
            return answers[0]
        raise Invalid(f"There is no operation '{op}'.")

    async def _apply(self, table: dict[str, Any]) -> None:
        async with self._changing:
            await self._ask_all("apply", table=self._divided(table))
            self._table = table

    async def _admit(self, admission: dict[str, Any]) -> None:
        """Change who may call, and nothing else: `domain` and the token digests of a table."""
        unknown = admission.keys() - ADMISSION
        if unknown:
            raise Invalid(f"An admission has no '{min(unknown)}'.", field="admission")
        async with self._changing:
            rest = {key: value for key, value in (self._table or {}).items() if key not in ADMISSION}
            self._table = rest | admission  # also for a front that fails now, or starts
            await self._ask_all("admit", admission=admission)

    async def _publish(self, events: list[str]) -> None:
        """Hand events to an administrator that has a bus. Raises Unavailable where there is none."""
        for channel in list(self.administrators):
            try:
                await channel.ask("events", timeout=10.0, events=events)
            except Invalid:
                continue  # it has none
            return
        raise Unavailable("No platform with a bus is connected to this server.")

    def _divided(self, table: dict[str, Any]) -> dict[str, Any]:
        return table | {"memory": table.get("memory", 0) // len(self._fronts)}

    async def _ask_all(self, op: str, timeout: float = 60.0, **arguments: Any) -> list[Any]:
        """The answers of all fronts that are up. Raises what the first of them raised."""
        channels = [front.channel for front in self._fronts if front.channel is not None]
        if not channels:
            raise Unavailable("The model server's front is starting again.")
        return list(await asyncio.gather(*(channel.ask(op, timeout, **arguments) for channel in channels)))

    def _front_status(self, front: Front) -> dict[str, Any]:
        pid = front.process.pid if front.process is not None else None
        return {"pid": pid, "ready": front.ready.is_set(), "restarts": front.restarts}

    async def _supervise(self, front: Front) -> None:
        wait = 0.0
        while not self._closing:
            code = await self._run(front)
            if self._stopping():
                return
            if front.restarts == 0 and time.monotonic() - front.started < _STEADY and code in (1, 2):
                raise Unavailable("The model server's front cannot start; its output says why.")
            wait = 0.0 if time.monotonic() - front.started > _STEADY else min(max(0.1, 2 * wait), _BACKOFF_MOST)
            front.restarts += 1
            _log.warning("front %d ended with %s; starting it again", front.number, _words(code))
            await asyncio.sleep(wait)

    def _stopping(self) -> bool:
        return self._closing

    async def _run(self, front: Front) -> int:
        ours, theirs = socket.socketpair()
        sockets = [*front.sockets, theirs]
        names = [*("--http-fd", "--grpc-fd")[: len(front.sockets)], "--channel-fd"]
        places = [str(item) for pair in zip(names, (sock.fileno() for sock in sockets), strict=True) for item in pair]
        front.started = time.monotonic()
        front.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mlaas.modelserver.front",
            *places,
            *self._arguments,
            pass_fds=[sock.fileno() for sock in sockets],
            stdin=asyncio.subprocess.DEVNULL,
            env={**_MALLOC, **os.environ},
        )
        theirs.close()

        async def handle(op: str, arguments: dict[str, Any]) -> Any:
            if op == "ready":
                front.ready.set()
                return None
            return await self.answer(op, arguments)

        channel = await over(ours, handle)
        try:
            async with self._changing:
                if self._table is not None:
                    with contextlib.suppress(Unavailable):
                        await channel.ask("apply", table=self._divided(self._table))
                front.channel = channel
            return await front.process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                front.process.kill()
            raise
        finally:
            front.ready.clear()
            front.channel = None
            await channel.close()


def bind(host: str, port: int, shared: bool) -> socket.socket:
    """A listening socket that a front inherits. `shared`: several fronts, each with a socket of its own on the same port."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise Invalid(f"There is no address '{host}': {error}.", field="host") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise Unavailable(
            f"Port {port} of {host} cannot be used: {error.strerror}.",
            hint=f"Choose another one, or stop what uses it (`ss -ltnp 'sport = :{port}'` shows it).",
        ) from None
    return sock


def merge_status(found: list[dict[str, Any]]) -> dict[str, Any]:
    """One status of the fronts' statuses: a service is ready when it is ready in all; an abort in one is an abort."""
    merged = found[0]
    by_name = {(each["project"], each["name"]): each for each in merged["services"]}
    for other in found[1:]:
        for key in ("used", "over", "unloaded"):
            merged["memory"][key] += other["memory"][key]
        for service in other["services"]:
            mine = by_name.get((service["project"], service["name"]))
            if mine is None:
                continue
            mine["ready"] = mine["ready"] and service["ready"]
            if "problem" in service:
                mine.setdefault("problem", service["problem"])
            _merge_log(mine.get("logger", {}), service.get("logger", {}))
            for side, theirs in zip(mine.get("traffic", []), service.get("traffic", []), strict=False):
                _merge_side(side, theirs)
    return merged


def _merge_log(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    for key in ("waiting", "sent", "dropped", "failed"):
        if key in theirs:
            mine[key] = mine.get(key, 0) + theirs[key]
    if "error" in theirs:
        mine.setdefault("error", theirs["error"])


def _merge_side(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    if "aborted" in theirs and "aborted" not in mine:
        mine["aborted"], mine["percent"] = theirs["aborted"], 0
    count, other = mine.get("requests", 0), theirs.get("requests", 0)
    if count + other:
        for key in ("error_rate", "latency"):
            mine[key] = (mine.get(key, 0.0) * count + theirs.get(key, 0.0) * other) / (count + other)
        mine["requests"] = count + other


def _words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Administration:
    """The Unix socket (0600) on which the serving table is applied and status is read."""

    def __init__(self, path: Path, parent: Parent) -> None:
        self._path = path
        self._parent = parent
        self._server: asyncio.Server | None = None
        self._channels = parent.administrators

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path)
        finally:
            os.umask(mask)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for channel in list(self._channels):
            await channel.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, self._parent.answer)
        self._channels.add(channel)
        await channel.closed.wait()
        self._channels.discard(channel)


async def serve(parent: Parent, admin: Path | None, announce: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run until SIGTERM or SIGINT; `announce` is called once the fronts answer."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    administration = Administration(admin, parent) if admin is not None else None
    try:
        if administration is not None:
            await administration.start()
        starting = loop.create_task(parent.start())
        stopping = loop.create_task(ending.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            announcing = loop.create_task(announce())
            await asyncio.wait([announcing, stopping], return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                announcing.result()
            else:
                announcing.cancel()
        await stopping
    finally:
        if administration is not None:
            await administration.close()
        await parent.stop()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mlaas.modelserver.parent")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--admin", type=Path, default=None, help="path of the administration socket")
    options, rest = parser.parse_known_args(arguments)

    async def run() -> None:
        parent = Parent(options.host, options.port, options.grpc_port, options.workers, rest)

        async def announce() -> None:
            print(f"ready at {parent.url}, gRPC at port {parent.grpc_port}", flush=True)

        await serve(parent, options.admin, announce)

    try:
        asyncio.run(run())
    except Error as error:
        print(f"mlaas: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
