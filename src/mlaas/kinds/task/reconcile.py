"""The life of a task: its references resolved, its workload made and followed, its result kept.

The task's reconciler is the only writer of its status but for `cancel`, which the route of that name writes, and the part
that a create begins with. Every step may be repeated: the workload's name follows from the task's uid, and a result is
kept under its hash.
"""

import re
import time
from datetime import datetime
from typing import Any

import orjson

from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanTidy, Engine
from mlaas.kernel.errors import Conflict, Error, Exists, Fenced, Full, NotFound, Unavailable
from mlaas.kernel.loop import Again, Done
from mlaas.kernel.resource import Json, Resource, condition, now, set_condition
from mlaas.kernel.store.base import Event
from mlaas.kinds.task.life import ENDED, FINALIZER
from mlaas.kinds.task.outcome import keep
from mlaas.kinds.task.plan import Place, resolved_of, workload_name, workload_of
from mlaas.kinds.task.references import check_targets, resolve_all
from mlaas.kinds.task.schema import AnySpec, parse

MIRRORED = ("Admitted", "Retrying", "Suspended", "Warm")
"""Conditions of the workload that the task shows as its own."""


SETTLING = 0.5
"""Seconds within which an attempt usually starts."""


def reconcilers(context: Context) -> list["TaskReconciler"]:
    return [TaskReconciler(context)]


class TaskReconciler:
    """One step of one task towards its end."""

    kind = "task"

    def __init__(self, context: Context) -> None:
        self.context = context

    def settled(self, task: Resource) -> bool:
        """Ended, tidied, and not to be deleted later."""
        return task.phase in ENDED and bool(task.status.get("tidied")) and task.spec.get("ttl_after_finished") is None

    async def reconcile(self, project: str, name: str) -> Done | Again:
        try:
            task = await self.context.database.get("task", project, name)
        except NotFound:
            return Done()
        try:
            return await self._step(task)
        except Fenced:
            raise
        except Conflict:
            return Again(0.0)  # somebody wrote it meanwhile: read it afresh

    async def _step(self, task: Resource) -> Done | Again:
        if task.meta.deleted:
            return await self._remove(task)
        if task.phase in ENDED:
            return await self._afterwards(task)
        spec = parse(task.spec)
        if not task.status.get("workload"):
            if task.status.get("cancel"):
                return await self._end(task, "Cancelled", "Cancelled", "cancelled before it was queued")
            return await self._make_workload(task, spec)
        workload = await self._workload(task)
        if workload is None:
            return await self._fail(task, {"code": "conflict", "message": "Its workload was deleted."})
        workload = await self._steer(task, spec, workload)
        return await self._mirror(task, workload)

    # -- before

    async def _make_workload(self, task: Resource, spec: AnySpec) -> Done | Again:
        try:
            resolved = await resolve_all(self.context, task.meta.project, spec)
            outputs = await check_targets(self.context, spec, task.meta.uid)
        except Unavailable as error:
            why = f"{error.message} {error.hint}" if error.hint else error.message
            known = condition(task.status, "Resolved")
            # Every write wakes this reconciler at once: a text that differs in its numbers only would keep it writing.
            if known is None or _without_numbers(known["message"]) != _without_numbers(why):
                set_condition(task.status, "Resolved", "False", "Unavailable", why)
                await self._save(task)
            return Again(5.0)
        except Error as error:
            return await self._fail(task, error.summary())
        settings, engine = self.context.settings, self.context.engine_named(spec.engine)
        if engine is None:
            return await self._fail(task, {"code": "invalid", "message": f"There is no engine '{spec.engine}' here."})
        place = Place(str(settings.data / "cache"), (settings.data / "blobs").absolute().as_uri())
        wanted = workload_of(task, spec, resolved, outputs, await engine.capacity(), place)
        task.status.update(resolved=resolved, workload=wanted.meta.name, phase="Queued", attempts=0)
        set_condition(task.status, "Resolved", "True", "Resolved", "")
        # The workload first: a task that names one it never got would be given up.
        try:
            await self.context.database.create(wanted, fence=self.context.fence())
        except Exists:
            # Made by a step that did not get further; what was resolved then is what it reads.
            made = await self.context.database.get("workload", task.meta.project, wanted.meta.name)
            task.status["resolved"] = resolved_of(made)
        await self._save(task)
        return Done()

    async def _workload(self, task: Resource) -> Resource | None:
        try:
            return await self.context.database.get("workload", task.meta.project, workload_name(task.meta.uid))
        except NotFound:
            return None

    async def _steer(self, task: Resource, spec: AnySpec, workload: Resource) -> Resource:
        """What may change of a task goes on to its workload."""
        wanted = {"suspend": spec.suspend, "priority": spec.priority, "cancel": bool(task.status.get("cancel"))}
        if all(workload.spec.get(key) == value for key, value in wanted.items()) or workload.phase in ENDED:
            return workload
        workload.spec.update(wanted)
        return await self.context.database.update(workload, fence=self.context.fence())

    # -- meanwhile

    async def _mirror(self, task: Resource, workload: Resource) -> Done | Again:
        status, theirs = task.status, workload.status
        if workload.phase == "Pending" and _recent(theirs):
            return Again(SETTLING)
        before = orjson.dumps(status)
        for name in ("progress", "replicas"):
            if name in theirs:
                status[name] = theirs[name]
        status["attempts"] = int(theirs.get("attempt") or 0)
        if theirs.get("history"):
            status["attempt_history"] = theirs["history"]
        if theirs.get("started"):
            status.setdefault("timestamps", {})["started"] = theirs["started"]
        for kind in MIRRORED:
            found = condition(theirs, kind)
            if found is not None:
                set_condition(status, kind, found["status"], found["reason"], found["message"])
        if workload.phase == "Succeeded":
            return await self._succeed(task, workload)
        if workload.phase == "Cancelled":
            return await self._end(task, "Cancelled", "Cancelled", "cancelled; nothing of it runs any more")
        if workload.phase == "Failed":
            return await self._failed(task, workload)
        status["phase"] = "Running" if workload.phase == "Running" else "Queued"
        status["observed_generation"] = task.meta.generation
        if orjson.dumps(status) != before:
            await self._save(task)
        return Done()

    # -- after

    async def _succeed(self, task: Resource, workload: Resource) -> Done | Again:
        engine = self._engine(workload)
        if engine is None:
            return Done()
        left = await engine.collect(workload.meta.uid, int(workload.status["attempt"]))
        document = (left.result or {}).get("result")
        try:
            kept = await keep(self.context.blobs, document if isinstance(document, dict) else {}, left.output)
        except (Unavailable, Full) as error:
            # What it left stays in its working folder until there is room to keep it.
            if set_condition(task.status, "Kept", "False", type(error).__name__, error.message):
                await self._save(task)
            return Again(5.0)
        except Error as error:
            hint = "Leave only files and folders in output/, without links to elsewhere."
            return await self._fail(task, {"hint": hint, "field": "output", **error.summary()}, "OutputRefused")
        task.status.update(kept)
        if condition(task.status, "Kept") is not None:
            set_condition(task.status, "Kept", "True", "Kept", "")
        return await self._end(task, "Succeeded", "Completed", "completed")

    async def _failed(self, task: Resource, workload: Resource) -> Done | Again:
        engine, ending = self._engine(workload), workload.status.get("exit") or {}
        error: Json = {"code": _code(ending.get("reason", "")), "message": str(ending.get("message") or "failed")}
        if hint := HINTS.get(ending.get("reason", "")):
            error["hint"] = hint
        attempt = int(workload.status.get("attempt") or 0)
        if engine is not None and attempt and task.spec.get("recipe") != "script":
            left = await engine.collect(workload.meta.uid, attempt)
            theirs = (left.result or {}).get("error")
            if isinstance(theirs, dict) and theirs.get("message"):
                error = {
                    key: str(theirs[key])[:4000] for key in ("code", "message", "hint", "field") if theirs.get(key)
                }
        return await self._fail(task, error, str(ending.get("reason") or "Error"))

    async def _fail(self, task: Resource, error: Json, reason: str = "Refused") -> Done | Again:
        task.status["error"] = error
        return await self._end(task, "Failed", reason, error["message"])

    async def _end(self, task: Resource, phase: str, reason: str, message: str) -> Done | Again:
        status = task.status
        status["phase"] = phase
        status.setdefault("timestamps", {})["ended"] = now()
        set_condition(status, "Finished", "True", reason, message)
        if phase == "Succeeded" and "percentage" in (status.get("progress") or {}):
            status["progress"] = {**status["progress"], "percentage": 100, "remaining_seconds": 0}
        task = await self._save(task)
        meta = task.meta
        warning: Any = "Warning" if phase == "Failed" else "Normal"
        await self.context.database.record(
            Event(meta.uid, meta.project, "task", meta.name, f"Task{phase}", message[:2000], type=warning)
        )
        return Again(0.0)

    async def _afterwards(self, task: Resource) -> Done | Again:
        """The working folder is tidied once, and the task deleted when its time is over."""
        if not task.status.get("tidied"):
            workload = await self._workload(task)
            keeper: object = self._engine(workload) if workload else None
            if workload is not None and isinstance(keeper, CanTidy):
                await keeper.tidy(workload.meta.uid, bool(task.spec.get("keep_checkpoints")))
            task.status["tidied"] = True
            task = await self._save(task)
        ttl = parse(task.spec).ttl_after_finished
        if ttl is None:
            return Done()
        ended = datetime.fromisoformat(task.status["timestamps"]["ended"]).timestamp()
        rest = ended + ttl - time.time()
        if rest > 0:
            return Again(min(rest, 3600.0))
        await self.context.database.delete("task", task.meta.project, task.meta.name, fence=self.context.fence())
        return Done()

    async def _remove(self, task: Resource) -> Done | Again:
        """The workload goes first, with its processes; then the task's name is free."""
        workload = await self._workload(task)
        if workload is not None:
            if not workload.meta.deleted:
                await self.context.database.delete(
                    "workload", workload.meta.project, workload.meta.name, fence=self.context.fence()
                )
            return Done()  # its going is a change of something that this task owns
        if FINALIZER in task.meta.finalizers:
            task.meta.finalizers.remove(FINALIZER)
            await self._save(task)
        return Done()

    def _engine(self, workload: Resource) -> Engine | None:
        admission = workload.status.get("admission") or {}
        return self.context.engine_named(admission.get("engine") or workload.spec.get("engine"))

    async def _save(self, task: Resource) -> Resource:
        task.status["observed_generation"] = task.meta.generation
        return await self.context.database.update(task, fence=self.context.fence())


def _recent(status: Json) -> bool:
    """An attempt has just been recorded: most likely it runs in a moment, and what is shown need be written only once."""
    recorded: str | None = (status.get("current") or {}).get("recorded")
    return recorded is not None and time.time() - datetime.fromisoformat(recorded).timestamp() < SETTLING


HINTS = {
    "OOMKilled": "Give it more with resources.memory, or take less at once (batch_size, max_length).",
    "TimeLimit": "Raise time_limit.",
    "AboveCapacity": "Ask for less in resources.",
    "Error": "The log says more: `mlaas logs TASK`.",
}


def _code(reason: str) -> str:
    """A reason as a code: `OOMKilled` -> `oom-killed`."""
    known = {"OOMKilled": "out-of-memory", "TimeLimit": "time-limit", "Error": "failed", "": "failed"}
    if reason in known:
        return known[reason]
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in reason).lstrip("-")


def _without_numbers(text: str) -> str:
    return re.sub(r"[\d.]+", "#", text)
