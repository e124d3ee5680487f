"""The local engine: runs workloads as processes of this machine. See `shim` for how, `layout` for where."""

import asyncio
import errno
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError

from mlaas.engines.local import afterwards, confinement, ending, environment, log, observation, orders, record
from mlaas.engines.local.hints import Hints
from mlaas.engines.local.layout import Place
from mlaas.engines.local.mounts import Fetch
from mlaas.engines.local.serving import ModelServer, admin_path
from mlaas.engines.local.warm import ForkServer
from mlaas.kernel import cgroup
from mlaas.kernel.engine import CanExec, CanReport, CanServe, CanSuspend, CanTidy, Engine
from mlaas.kernel.errors import Conflict, Error, Full, Invalid, NotFound, Unavailable
from mlaas.kernel.resource import Resource
from mlaas.kernel.workload import Collected, Observed, Resources, WorkloadSpec

_SHIM = str(Path(__file__).with_name("shim.py"))
_ENTER = str(Path(__file__).with_name("enter.py"))
_MEMORY_PART = 0.9
"""The part of the machine's memory that workloads may have when nothing is said."""
_CHUNK = 1 << 18
_STARTING = 1.0
"""Seconds in which a shim that is just being started has claimed its attempt; one more does no harm."""

logger = logging.getLogger(__name__)


class LocalEngine(Engine, CanTidy, CanSuspend, CanReport, CanExec, CanServe):
    """Processes on this machine, each below a shim of its own; they outlive the platform.

    `data` is the platform's folder, `host` names the machine (the engine is `local-HOST`), `roots` are the folders that tasks
    may read and write. `cpus` (cores) and `memory` (bytes) bound all workloads together; by default the cores of this process
    and 90% of the memory. `preload` are the modules that the warm fork server imports; with none there is no such server, and
    recipes start by exec. `fetch` brings mounts that are no local files. `inference` is the model server's host, its HTTP port
    and its gRPC port; with `access_log` it writes a line a request.
    """

    def __init__(
        self,
        data: Path,
        host: str,
        *,
        roots: Sequence[Path] = (),
        cpus: float | None = None,
        memory: int | None = None,
        cache: Path | None = None,
        blobs: Path | None = None,
        preload: Sequence[str] = (),
        fetch: Fetch | None = None,
        limit_by_cgroup: bool = True,
        log_segment: int = log.SEGMENT,
        inference: tuple[str, int, int] = ("127.0.0.1", 8000, 8001),
        access_log: bool = False,
    ) -> None:
        self.name = f"local-{host}"
        self._work = data / "work"
        cache = cache or data / "cache"
        gpus = orders.accelerators()
        self._capacity = Resources(
            cpu=cpus or float(len(os.sched_getaffinity(0))),
            memory=memory or int(psutil.virtual_memory().total * _MEMORY_PART),
            gpu=len(gpus),
        )
        self._hints = Hints(data)
        self._base = cgroup.detect() if limit_by_cgroup else None
        rules = confinement.Confinement(data, roots, blobs or data / "blobs", cache)
        self._orders = orders.Orders(rules, self._base, self._hints.path, cache, gpus, fetch, log_segment)
        plain = environment.base()
        self._plain = ForkServer([], plain)
        self._warm = ForkServer(list(preload), {**plain, **environment.recipes(cache)}) if preload else None
        self._models = ModelServer(admin_path(data), cache / "models", *inference, fetch, access_log)
        self._locks: dict[str, asyncio.Lock] = {}
        self._ended: dict[str, Observed] = {}
        self._reviving: dict[str, asyncio.Task[None]] = {}
        self._open = False

    @staticmethod
    def confinement() -> str | None:
        """What keeps tasks to their files, in words; None: only administrators may run foreign code."""
        return confinement.kind()

    @property
    def limits(self) -> str:
        """How memory is limited, in words."""
        if self._base:
            return f"control groups, version {self._base['version']}"
        return "sampling of the proportional set size"

    @property
    def warm(self) -> str:
        """Whether recipes start from the warm fork server, in words: `ready`, or why they do not."""
        if self._warm is None:
            return "off"
        return "ready" if self._warm.ready else self._warm.state

    @property
    def warm_pid(self) -> int | None:
        """Process of the warm fork server."""
        return self._warm.pid if self._warm else None

    async def wait_warm(self, seconds: float) -> bool:
        """Wait until the warm fork server can fork."""
        return self._warm is not None and await self._warm.wait_ready(seconds)

    # -- life

    async def open(self) -> None:
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hints.open()
        self._open = True
        await self._plain.open()
        if self._warm:
            await self._warm.open()
        await self.observe()
        await self._plain.wait_ready(2.0)

    async def close(self) -> None:
        self._open = False
        await self._models.close()
        for task in list(self._reviving.values()):
            task.cancel()
        await self._plain.close()
        if self._warm:
            await self._warm.close()
        self._hints.close()

    async def capacity(self) -> Resources:
        return self._capacity

    def hints(self) -> AsyncIterator[str]:
        return self._hints.listen()

    # -- start

    async def ensure(self, workload: Resource, attempt: int) -> None:
        try:
            spec = WorkloadSpec.model_validate(workload.spec)
        except ValidationError as error:
            raise Invalid(f"Not the spec of a workload: {error.errors()[0]['msg']}", field="spec") from None
        orders.check(spec, self._capacity)
        place = Place(self._work, workload.meta.uid)
        async with self._lock(place.uid):
            if attempt in place.attempts() and await asyncio.to_thread(_all_claimed, place, attempt):
                return
            if any(number > attempt for number in place.attempts()):
                return
            await self._settle(place, attempt)
            taken = await asyncio.to_thread(self._taken, place.uid) if self._capacity.gpu else set()
            self._ended.pop(place.uid, None)
            with _disk():
                folders = await asyncio.to_thread(self._orders.write, place, workload, spec, attempt, taken)
            for folder in folders:
                await self._start(folder)

    async def _settle(self, place: Place, attempt: int) -> None:
        """Raises Unavailable unless every earlier attempt has ended."""
        earlier = [number for number in place.attempts() if number < attempt]
        if earlier:
            observed, _ = await asyncio.to_thread(observation.observe, place)
            if observed and observed.attempt < attempt and not observation.ended(observed):
                raise Unavailable(f"Attempt {observed.attempt} of this workload has not ended yet.")

    async def _start(self, folder: str) -> None:
        """Start the shim of an attempt by the fastest way that is there. One too many does no harm: it finds the claim."""
        order = await asyncio.to_thread(_unclaimed, folder)
        if order is None:
            return
        message = ""
        if order["recipe"]:
            message = self._why_cold(order)
            if not message:
                if self._warm is not None and await self._warm.fork(folder):
                    return
                message = self._why_cold(order) or "The process that has them loaded did not answer"
            message = f"{message}: this start loads its libraries itself, which takes some seconds."
            await asyncio.to_thread(record.write, f"{folder}/{record.ORDER}", {**order, "message": message})
        if not await self._plain.fork(folder):
            await asyncio.to_thread(_exec_shim, folder)

    def _why_cold(self, order: dict[str, Any]) -> str:
        """Why a recipe can't start from the warm fork server; empty when it can."""
        if self._warm is None:
            return "Nothing is loaded ahead on this platform"
        if not self._warm.ready:
            return f"The libraries that tasks share are not ready ({self._warm.state})"
        if order["own_environment"]:
            return "It has environment variables of its own, which must be set before libraries are loaded"
        return ""

    def _taken(self, uid: str) -> set[str]:
        """Accelerators of workloads that have not ended."""
        found: set[str] = set()
        for name in self._uids():
            if name != uid and name not in self._ended:
                place = Place(self._work, name)
                for number in place.attempts()[-1:]:
                    observed, _ = observation.observe(place)
                    if observed and not observation.ended(observed):
                        found.update(gpu for replica in place.gang(number)["gpus"] for gpu in replica)
        return found

    # -- stop, look

    async def stop(self, uid: str, grace: float, reason: str) -> None:
        place = Place(self._work, uid)
        await asyncio.to_thread(_ask_all, place, grace, reason)
        self._hints.give(uid)

    async def observe(self, uid: str | None = None) -> list[Observed]:
        uids = [uid] if uid is not None else await asyncio.to_thread(self._uids)
        found = await asyncio.to_thread(self._look, uids)
        for observed, shims in found:
            if observation.ended(observed):
                self._ended[observed.uid] = observed
            if self._open:
                for shim in shims:
                    self._hints.watch(observed.uid, shim)
                if len(shims) < len(observed.replicas):
                    self._revive(observed)
        return [observed for observed, _ in found]

    def _revive(self, observed: Observed) -> None:
        """Start again what was begun and never got a shim: a platform, or the process forked for it, died in between."""
        if observed.uid in self._reviving or not any(replica.phase == "Pending" for replica in observed.replicas):
            return

        async def revive() -> None:
            place = Place(self._work, observed.uid)
            await asyncio.sleep(_STARTING)
            document = await asyncio.to_thread(record.read, str(place.folder / "workload.json"))
            try:
                if document:
                    await self.ensure(Resource.from_json(document), observed.attempt)
            except Error as error:
                logger.warning("Workload %s could not be started again: %s", observed.uid, error.message)
            finally:
                self._reviving.pop(observed.uid, None)
                self._hints.give(observed.uid)

        self._reviving[observed.uid] = asyncio.create_task(revive())

    def _uids(self) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(self._work) if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []

    def _look(self, uids: list[str]) -> list[tuple[Observed, list[dict[str, Any]]]]:
        found: list[tuple[Observed, list[dict[str, Any]]]] = []
        for uid in uids:
            place = Place(self._work, uid)
            known = self._ended.get(uid)
            if known and place.attempts()[-1:] == [known.attempt]:
                found.append((known, []))  # what has ended does not change
                continue
            observed, shims = observation.observe(place)
            if observed:
                found.append((observed, shims))
        return found

    async def logs(self, uid: str, role: str, index: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """Raises NotFound. With `follow` it ends with the latest attempt: who awaits another asks again from the offset
        reached."""
        place = Place(self._work, uid)
        folder = place.replica(role, index)
        if not folder.is_dir():
            raise NotFound(f"There is no log of replica {role}-{index}.", field="replica")
        pause = 0.02
        while True:
            over = not follow or await asyncio.to_thread(_over, place)
            while content := log.read(str(folder), offset, _CHUNK):
                offset += len(content)
                pause = 0.02
                yield content
                await asyncio.sleep(0)
            if over:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    async def points(self, uid: str, attempt: int, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Metrics that the attempt's replicas of rank 0 reported, from byte `offset` of its file on: each
        `{"time", "metrics": {name: value}}` as reported; and the offset to go on from."""
        folders = Place(self._work, uid).folders(attempt)
        return await asyncio.to_thread(observation.points, folders[0], offset) if folders else ([], offset)

    async def execute(self, uid: str, role: str, index: int, command: list[str]) -> int:
        """What the command prints goes nowhere. It ends with the platform, or when the replica does. Raises NotFound unless
        the replica runs."""
        place = Place(self._work, uid)
        for observed in await self.observe(uid):
            for replica in observed.replicas:
                if (replica.role, replica.index, replica.phase) == (role, index, "Running"):
                    return await _enter(place.attempt(role, index, observed.attempt), command)
        raise NotFound(f"Replica {role}-{index} does not run.", field="replica")

    # -- services

    def server(self) -> WorkloadSpec:
        return self._models.workload(self._capacity)

    async def serve(self, table: dict[str, Any]) -> dict[tuple[str, str], str]:
        return await self._models.apply(table)

    async def admit(self, admission: dict[str, Any]) -> None:
        await self._models.admit(admission)

    async def serving(self) -> dict[str, Any]:
        return await self._models.status()

    def listen(self, publish: Callable[[list[str]], Awaitable[None]]) -> None:
        self._models.publish = publish

    async def tails(self, project: str, name: str) -> dict[str, Any]:
        return await self._models.tails(project, name)

    def addresses(self) -> dict[str, str]:
        return self._models.addresses()

    # -- afterwards

    async def collect(self, uid: str, attempt: int) -> Collected:
        return await asyncio.to_thread(afterwards.collect, Place(self._work, uid), attempt)

    async def tidy(self, uid: str, keep_checkpoints: bool) -> None:
        place = Place(self._work, uid)
        async with self._lock(uid):
            await self._must_have_ended(place)
            await asyncio.to_thread(afterwards.tidy, place, keep_checkpoints)

    async def remove(self, uid: str) -> None:
        place = Place(self._work, uid)
        async with self._lock(uid):
            await self._must_have_ended(place)
            await asyncio.to_thread(place.remove)
            self._ended.pop(uid, None)
        self._locks.pop(uid, None)

    async def _must_have_ended(self, place: Place) -> None:
        for observed in await self.observe(place.uid):
            if not observation.ended(observed):
                raise Conflict("The workload still runs.", hint="Stop it first.")

    def _lock(self, uid: str) -> asyncio.Lock:
        return self._locks.setdefault(uid, asyncio.Lock())


def _all_claimed(place: Place, attempt: int) -> bool:
    folders = place.folders(attempt)
    return bool(folders) and all(os.path.exists(f"{folder}/{record.SHIM}") for folder in folders)


def _unclaimed(folder: str) -> dict[str, Any] | None:
    """The order of an attempt that has no shim yet."""
    return None if os.path.exists(f"{folder}/{record.SHIM}") else record.read(f"{folder}/{record.ORDER}")


def _over(place: Place) -> bool:
    attempts = place.attempts()
    return not attempts or all(os.path.exists(f"{folder}/{record.EXIT}") for folder in place.folders(attempts[-1]))


def _exec_shim(folder: str) -> None:
    """Start a shim that is nobody's child: the process started here forks it and ends."""
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", _SHIM, folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment.base(),
            cwd="/",
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"No process could be started: {error}") from None


async def _enter(folder: str, command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        _ENTER,
        folder,
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment.base(),
        start_new_session=True,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


def _ask_all(place: Place, grace: float, reason: str) -> None:
    for attempt in place.attempts()[-1:]:
        for folder in place.folders(attempt):
            ending.ask(folder, reason, "It was ended by the platform.", grace)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full("The disk is full: the task's folder could not be written.", hint="Free some room.") from None
        raise
