"""The whole slice without HTTP: the real store, loop, local engine and blobs, with the kinds of this package."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlaas.engines.local.engine import LocalEngine
from mlaas.kernel.blobs.objects import FolderBlobs
from mlaas.kernel.blobs.tree import materialise
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Conflict, NotFound
from mlaas.kernel.loop import Loop
from mlaas.kernel.resource import Kinds, Meta, Resource
from mlaas.kernel.settings import Settings
from mlaas.kernel.store.open import open_database
from mlaas.kinds.project.spec import KIND as PROJECT
from mlaas.kinds.task.reconcile import reconcilers as task_reconcilers
from mlaas.kinds.task.spec import KIND as TASK
from mlaas.kinds.workload.reconcile import reconcilers as workload_reconcilers
from mlaas.kinds.workload.spec import KIND as WORKLOAD


@dataclass
class Platform:
    context: Context
    engine: LocalEngine
    loop: Loop
    root: Path

    async def submit(self, name: str, spec: dict[str, Any]) -> Resource:
        task = Resource("task", Meta(name, "default"), spec)
        assert TASK.validate is not None
        await TASK.validate(self.context, task)
        created = await self.context.database.create(task)
        self.context.hint("task", "default", name)
        return created

    async def script(self, name: str, code: str, **spec: Any) -> Resource:
        return await self.submit(name, {"recipe": "script", "command": ["sh", "-c", code], **spec})

    async def get(self, name: str, kind: str = "task") -> Resource:
        return await self.context.database.get(kind, "default", name)

    async def workload(self, name: str) -> Resource:
        return await self.get((await self.get(name)).status["workload"], "workload")

    async def until(self, name: str, what: str | Callable[[Resource], Any], seconds: float = 20) -> Resource:
        """The task once its phase is `what`, or `what(task)` holds."""
        end = time.monotonic() + seconds
        while True:
            task = await self.get(name)
            if task.phase == what if isinstance(what, str) else what(task):
                return task
            over = time.monotonic() > end or (
                isinstance(what, str) and task.phase in ("Succeeded", "Failed", "Cancelled")
            )
            assert not over, f"{name} is {task.phase}: {task.status}"
            await asyncio.sleep(0.02)

    async def gone(self, name: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                await self.get(name)
            except NotFound:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{name} is still there: {await self.get(name)}")

    async def change(self, name: str, change: Callable[[Resource], None]) -> None:
        while True:
            task = await self.get(name)
            change(task)
            try:
                await self.context.database.update(task)
            except Conflict:
                continue  # a reconciler wrote in between
            return

    async def log(self, name: str) -> bytes:
        workload = await self.workload(name)
        return b"".join([part async for part in self.engine.logs(workload.meta.uid, "main", 0, 0, False)])

    async def events(self, name: str) -> list[str]:
        uid = (await self.get(name)).meta.uid
        return [event.reason for _, event in await self.context.database.events(owner=uid)]


@asynccontextmanager
async def running(data: Path, root: Path, *, stop: bool = True, **settings: Any) -> AsyncIterator[Platform]:
    kinds = Kinds([TASK, WORKLOAD, PROJECT])
    configuration = Settings(data=data, local_roots=[root], **settings)
    os.makedirs(data, exist_ok=True)
    database = await open_database(data / "mlaas.db", kinds)
    blobs = FolderBlobs(data / "blobs")
    engine = LocalEngine(
        data,
        "here",
        roots=configuration.roots(),
        cpus=configuration.cpus or 2,
        memory=4 << 30,
        fetch=lambda mount, target: materialise(blobs, mount.hash, target),
    )
    await engine.open()
    context = Context(configuration, database, kinds, blobs, {engine.name: engine})
    loop = Loop(database, [*workload_reconcilers(context), *task_reconcilers(context)], holder="test")
    context.hint, context.fence = loop.hint, loop.fence
    running = asyncio.create_task(loop.run())
    try:
        yield Platform(context, engine, loop, root)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        for observed in await engine.observe() if stop else ():
            await engine.stop(observed.uid, 0.0, "Cancelled")
        for _ in range(200 if stop else 0):
            if all(replica.exit for observed in await engine.observe() for replica in observed.replicas):
                break
            await asyncio.sleep(0.02)
        await engine.close()
        await database.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
async def platform(tmp_path: Path, root: Path) -> AsyncIterator[Platform]:
    async with running(tmp_path / "data", root) as platform:
        yield platform
