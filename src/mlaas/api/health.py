"""Is it alive, is it ready, what is wrong: `/livez`, `/readyz`, `/api/v1/doctor`."""

import shutil
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from mlaas.api import documentation
from mlaas.kernel import web
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Error, Unavailable
from mlaas.kernel.resource import Json
from mlaas.kernel.store.base import Query

_OPEN = {"x-open": True}
_LOW = 5 << 30
_PARTS = {
    "blobs": "outputs that tasks left to the platform",
    "cache": "inputs that were downloaded, and their tokens",
    "work": "logs and working folders of tasks",
    "files": "what users put there",
}


def open_router(context: Context) -> APIRouter:
    """The routes that need no token."""
    routes = APIRouter(tags=["platform"])

    @routes.get(
        "/livez",
        operation_id="get_livez",
        **documentation.route(
            "Is the process alive",
            (200, documentation.json_answer("It is.", documentation.ref("Health"))),
            extra=_OPEN,
        ),
    )
    async def livez() -> Response:
        return web.answer({"status": "alive"})

    @routes.get(
        "/readyz",
        operation_id="get_readyz",
        **documentation.route(
            "Does the platform take requests",
            (200, documentation.json_answer("It does.", documentation.ref("Health"))),
            extra=_OPEN,
        ),
    )
    async def readyz() -> Response:
        try:
            await context.database.revision()
        except Error as error:
            raise Unavailable(f"The store does not answer: {error.message}", hint=error.hint) from None
        return web.answer({"status": "ready"})

    return routes


def router(context: Context, loop: Any) -> APIRouter:
    routes = APIRouter(tags=["platform"])

    @routes.get(
        "/api/v1/doctor",
        operation_id="get_doctor",
        **documentation.route(
            "What the platform finds when it looks at itself",
            (200, documentation.json_answer("The checks.", documentation.ref("Doctor"))),
        ),
    )
    async def doctor(request: Request) -> Response:
        web.check(request, "get", "doctor", None)
        checks = [await _store(context), _leader(context, loop), *await _engines(context), await _disk(context)]
        checks += await _use(context)
        return web.answer({"checks": checks})

    return routes


def check(name: str, state: str, message: str, hint: str | None = None) -> Json:
    """One finding. `state` is ok, warn or bad."""
    return {"name": name, "state": state, "message": message, "hint": hint}


async def _store(context: Context) -> Json:
    counts = await context.database.count(Query(kind="task"))
    tasks = ", ".join(f"{count} {phase or 'new'}" for phase, count in counts.items()) or "none"
    return check("store", "ok", f"revision {await context.database.revision()}; tasks: {tasks}")


def _leader(context: Context, loop: Any) -> Json:
    if loop is not None and loop.leading:
        return check("loop", "ok", "this platform acts on what is asked")
    return check(
        "loop",
        "warn",
        "this platform does not act on what is asked",
        "Another one over the same store does, or did just now.",
    )


async def _engines(context: Context) -> list[Json]:
    found = []
    for name, engine in context.engines.items():
        capacity = await engine.capacity()
        text = f"{capacity.cpu:g} cores, {capacity.memory / 2**30:.1f} GiB, {capacity.gpu} accelerators"
        found.append(check(f"engine {name}", "ok", text))
        found += _local(engine)
    if not context.settings.admit:
        found.append(check("admission", "warn", "nothing is admitted (MLAAS_ADMIT=0)", "Unset it and start again."))
    return found


def _local(engine: Any) -> list[Json]:
    """What an engine of processes says of itself; nothing for others."""
    found = []
    if hasattr(engine, "confinement"):
        kind = engine.confinement()
        hint = "Only administrators may submit scripts here: use a kernel with Landlock (Linux 5.13 or later)."
        state = check("confinement", "ok", kind) if kind else check("confinement", "warn", "none", hint)
        found.append(state)
    if hasattr(engine, "limits"):
        found.append(check("memory limits", "ok", f"by {engine.limits}"))
    if hasattr(engine, "warm"):
        found.append(_start(engine.warm))
    return found


def _start(warm: str) -> Json:
    """How fast tasks begin: frameworks are loaded once, and shared, unless that was switched off."""
    if warm == "ready":
        return check("task start", "ok", "in milliseconds: torch and transformers are loaded already")
    if warm == "off":
        return check("task start", "ok", "in seconds: each task loads its own libraries (MLAAS_WARM=0, or no torch)")
    return check("task start", "ok", f"in seconds, until torch and transformers are loaded for all ({warm})")


async def _disk(context: Context) -> Json:
    usage = await run_in_threadpool(shutil.disk_usage, context.settings.data)
    state = "ok" if usage.free > _LOW else "warn"
    hint = None if state == "ok" else "Make room, or delete tasks that are not needed any more."
    return check("data folder", state, f"{usage.free / 2**30:.1f} GiB free at {context.settings.data}", hint)


async def _use(context: Context) -> list[Json]:
    """Bytes in each part of the data folder."""

    def walk() -> list[Json]:
        found = []
        for part, what in _PARTS.items():
            folder = context.settings.data / part
            if folder.is_dir():
                sizes = [path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_symlink()]
                found.append(check(part, "ok", f"{sum(sizes) / 2**20:.1f} MiB in {len(sizes)} files: {what}"))
        return found

    return await run_in_threadpool(walk)
