"""The life of a workload: admitted, started, watched, ended, tried again.

An attempt's number is in the store before the engine hears of it, so a platform that dies between the two starts the very
same attempt again, which the engine takes as one. An attempt is over only when the engine shows its exit records; the next
number is written after that, and never when the attempt before has committed a result.
"""

import asyncio
import time
from datetime import datetime
from itertools import zip_longest
from typing import Any

import orjson

from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanTidy, Engine
from mlaas.kernel.errors import Conflict, Error, Fenced, Full, NotFound, Unavailable
from mlaas.kernel.loop import Again, Done
from mlaas.kernel.resource import Resource, condition, now, set_condition
from mlaas.kernel.workload import Collected, Observed, WorkloadSpec
from mlaas.kinds.workload.admission import Admission, fence, needs, release, whole
from mlaas.kinds.workload.attempts import (
    MOST_INTERRUPTIONS,
    End,
    all_ended,
    delay,
    gang_broken,
    judge,
    progress_mark,
    replica_status,
)
from mlaas.kinds.workload.reports import Reports, tell
from mlaas.kinds.workload.spec import CANCELLED, ENDED, FAILED, FINALIZER, PENDING, RUNNING, SUCCEEDED

Step = Done | Again
HISTORY = 20
WATCH = 2.0
"""Seconds between looks at a running attempt when the engine gives no hint."""


def reconcilers(context: Context) -> list["WorkloadReconciler"]:
    return [WorkloadReconciler(context)]


class WorkloadReconciler:
    """One step of one workload towards its spec; level-triggered, every step may be repeated."""

    kind = "workload"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.admission = Admission(context)
        self.reports = Reports(context)
        self._listening: dict[str, asyncio.Task[None]] = {}

    def settled(self, workload: Resource) -> bool:
        return workload.phase in ENDED

    def _listen(self) -> None:
        """Have the engines' hints come to the loop; begun with the first step, ended with the event loop."""
        for engine in self.context.engines.values():
            task = self._listening.get(engine.name)
            if task is None or task.done():
                work = self._follow_hints(engine)
                self._listening[engine.name] = asyncio.create_task(work, name=f"hints-{engine.name}")

    async def _follow_hints(self, engine: Engine) -> None:
        async for uid in engine.hints():
            place = self.admission.place_of(uid)
            if place is not None:
                self.context.hint("workload", *place)

    async def reconcile(self, project: str, name: str) -> Step:
        self._listen()
        try:
            workload = await self.context.database.get("workload", project, name)
        except NotFound:
            if self.admission.forget(project, name):
                await self.admission.step()
            return Done()
        try:
            return await self._step(workload)
        except Fenced:
            raise
        except Conflict:
            return Again(0.0)  # somebody wrote it meanwhile: read it afresh

    async def _step(self, workload: Resource) -> Step:
        changed = self.admission.see(workload)
        spec = WorkloadSpec.model_validate(workload.spec)
        engine = self._engine(workload, spec)
        if workload.meta.deleted:
            return await self._remove(workload, spec, engine)
        if workload.phase in ENDED:
            if changed:
                await self.admission.step()
            return Done()
        if workload.status.get("current"):
            if engine is None:
                return Done()  # another platform's: it runs where it was admitted
            return await self._follow(workload, spec, engine)
        if spec.cancel:
            return await self._end(workload, CANCELLED, "Cancelled", "cancelled before it ran")
        if spec.suspend:
            return await self._hold(workload, changed)
        return await self._admit(workload, spec, engine, changed)

    def _engine(self, workload: Resource, spec: WorkloadSpec) -> Engine | None:
        admission = workload.status.get("admission") or {}
        return self.context.engine_named(admission.get("engine") or spec.engine)

    # -- before an attempt

    async def _hold(self, workload: Resource, changed: bool = True) -> Step:
        """Suspended, with nothing running: it holds no room."""
        release(workload.status, "Suspended", "suspended; starts again when suspend is false")
        set_condition(workload.status, "Suspended", "True", "Suspended", "suspended by its owner")
        workload.status["phase"] = PENDING
        workload.status.pop("retry_at", None)
        saved = await self._save(workload)
        if self.admission.see(saved) or changed:
            await self.admission.step()
        return Done()

    async def _admit(self, workload: Resource, spec: WorkloadSpec, engine: Engine | None, changed: bool) -> Step:
        admission = workload.status.get("admission") or {}
        uid = workload.meta.uid
        if not admission.get("admitted"):
            if engine is not None:
                capacity = whole(await engine.capacity())
                over = needs(spec).excess(capacity)
                if over:
                    message = (
                        f"needs {needs(spec)}, but the engine '{engine.name}' has {capacity} in all ({', '.join(over)})"
                    )
                    return await self._end(workload, FAILED, "AboveCapacity", message)
            due = self.admission.recheck_after(uid)
            if changed or due is not None:
                await self.admission.step(workload)
                due = self.admission.recheck_after(uid)
            if not (workload.status.get("admission") or {}).get("admitted"):
                return Again(due) if due is not None else Done()
            engine = self._engine(workload, spec)
        if engine is None:
            return Done()
        wait = _seconds_until(workload.status.get("retry_at"))
        if wait > 0:
            return Again(wait)
        return await self._start(workload, spec, engine)

    async def _start(self, workload: Resource, spec: WorkloadSpec, engine: Engine) -> Step:
        status = workload.status
        attempt = int(status.get("attempt") or 0) + 1
        status["attempt"] = attempt
        status["current"] = {"attempt": attempt, "recorded": now()}
        status["phase"] = PENDING
        status.pop("retry_at", None)
        if condition(status, "Suspended"):
            set_condition(status, "Suspended", "False", "Resumed", "")
        workload = await self._save(workload)
        outcome = await self._follow(workload, spec, engine)
        if attempt == 1:
            await tell(self.context, workload, "Admitted", f"{needs(spec)} on '{engine.name}'")
        return outcome

    # -- while an attempt runs

    async def _follow(self, workload: Resource, spec: WorkloadSpec, engine: Engine) -> Step:
        uid, attempt = workload.meta.uid, int(workload.status["current"]["attempt"])
        observed = await _observe(engine, uid, attempt)
        if observed is None:
            if spec.cancel or spec.suspend or workload.meta.deleted:
                # Recorded, never started: nothing runs and nothing will.
                return await self._close(workload, spec, End("interruption", "NotStarted", "was not started yet"), None)
            try:
                await engine.ensure(workload, attempt)
            except (Unavailable, Full, Conflict) as error:
                await tell(self.context, workload, "NotStarted", error.message, warning=True)
                return Again(2.0)
            except Error as error:  # an input that is not there, or denied: another attempt would find the same
                return await self._close(workload, spec, End("final", "StartError", error.message), None)
            observed = await _observe(engine, uid, attempt)
            if observed is None:
                return Again(0.05)
        if all_ended(observed.replicas):
            return await self._ended(workload, spec, engine, observed)
        reason = self._reason_to_stop(workload, spec, observed)
        if reason:
            await engine.stop(uid, spec.grace, reason)
        before = orjson.dumps(workload.status)
        wait = self.reports.take(workload, observed)
        if wait is None:
            await self.reports.keep_points(workload, engine, observed)
        fresh = self._show(workload, observed)
        workload.status["observed_generation"] = workload.meta.generation
        if orjson.dumps(workload.status) != before:
            await self._save(workload)
        if fresh:
            await tell(self.context, workload, "Started", f"attempt {attempt}")
        return Again(min(WATCH, wait) if wait is not None else WATCH)

    def _reason_to_stop(self, workload: Resource, spec: WorkloadSpec, observed: Observed) -> str | None:
        if spec.cancel or workload.meta.deleted:
            return "Cancelled"
        if spec.suspend:
            return "Suspended"
        if gang_broken(observed.replicas):
            return "GangFailed"
        # The engine keeps the limit itself; this is for one that cannot.
        late = spec.time_limit and -_seconds_until(observed.started) > spec.time_limit + spec.grace + 5
        return "TimeLimit" if late else None

    def _show(self, workload: Resource, observed: Observed) -> bool:
        """Replicas and phase as they are now; True when it has just begun to run."""
        status = workload.status
        status["replicas"] = [replica_status(replica) for replica in observed.replicas]
        cold = [replica.message for replica in observed.replicas if replica.pid is not None and replica.message]
        if cold:
            set_condition(status, "Warm", "False", "StartedByExec", cold[0])
        runs = any(replica.phase == "Running" for replica in observed.replicas)
        if observed.started:  # also of one that ended before it was ever seen running
            status["current"]["started"] = observed.started
            status.setdefault("started", observed.started)
        if not runs or status.get("phase") == RUNNING:
            return False
        status["phase"] = RUNNING
        return True

    # -- after an attempt

    async def _ended(self, workload: Resource, spec: WorkloadSpec, engine: Engine, observed: Observed) -> Step:
        self._show(workload, observed)
        self.reports.take(workload, observed, final=True)
        await self.reports.keep_points(workload, engine, observed)
        end = judge(spec, observed.replicas)
        left = None
        if end.outcome != "success":
            left = await engine.collect(workload.meta.uid, observed.attempt)
            if left.result is not None and "result" in left.result:
                end = End(
                    "success", "Completed", "its result was committed before it was stopped", end.code, end.signal
                )
        return await self._close(workload, spec, end, observed, left)

    async def _close(
        self,
        workload: Resource,
        spec: WorkloadSpec,
        end: End,
        observed: Observed | None,
        left: Collected | None = None,
    ) -> Step:
        """The current attempt is over, as `end` says: the workload's end, a pause, or another attempt."""
        status = workload.status
        self._note(status, end, observed)
        if end.outcome == "success" and spec.mode == "job":
            return await self._end(workload, SUCCEEDED, end.reason, end.message)
        if workload.meta.deleted:
            await self._save(workload)
            return Again(0.0)
        if spec.cancel:
            return await self._end(workload, CANCELLED, "Cancelled", end.message)
        if spec.suspend:
            return await self._hold(workload)
        if end.outcome == "final":
            return await self._end(workload, FAILED, end.reason, end.message)
        count = self._count(status, end, observed, left)
        limit = MOST_INTERRUPTIONS if end.outcome == "interruption" else spec.backoff_limit
        if count > limit and spec.mode == "job":
            reason, message = end.reason, end.message
            if end.outcome == "interruption":
                reason = "TooManyInterruptions"
                message = f"interrupted {count} times without progress between; the last time: {end.message}"
            elif limit:
                message = f"{end.message}; {limit} {'retry' if limit == 1 else 'retries'} did not help"
            return await self._end(workload, FAILED, reason, message)
        wait = delay(end.outcome, count)
        status["retry_at"] = time.time() + wait
        status["phase"] = PENDING
        text = f"attempt {status['attempt']}: {end.message}; the next one starts in {wait:.1f} s"
        set_condition(status, "Retrying", "True", end.reason, text)
        await self._save(workload)
        await tell(self.context, workload, "Retrying", f"attempt {status['attempt']}: {end.message}", warning=True)
        return Again(wait)

    def _note(self, status: dict[str, Any], end: End, observed: Observed | None) -> None:
        current = status.pop("current", None) or {}
        ended = max((r.exit.ended for r in observed.replicas if r.exit), default=now()) if observed else now()
        record = {
            "attempt": status.get("attempt"),
            "started": current.get("started") or (observed.started if observed else None),
            "ended": ended,
            "outcome": end.outcome,
            "reason": end.reason,
            "message": end.message,
            "code": end.code,
            "signal": end.signal,
        }
        status["history"] = [*status.get("history", []), record][-HISTORY:]

    def _count(self, status: dict[str, Any], end: End, observed: Observed | None, left: Collected | None) -> int:
        """How many ends of this sort there were; interruptions begin anew after progress."""
        if end.outcome != "interruption":
            status["failures"] = int(status.get("failures") or 0) + 1
            return int(status["failures"])
        before = status.get("interruptions") or {"count": 0, "mark": []}
        mark = progress_mark(observed, left) if observed else before["mark"]
        pairs = list(zip_longest(mark, before["mark"], fillvalue=0.0))  # an earlier release kept fewer numbers
        count = 1 if any(new > old for new, old in pairs) else int(before["count"]) + 1
        best = [max(pair) for pair in pairs]
        status["interruptions"] = {"count": count, "mark": best}
        return count

    async def _end(self, workload: Resource, phase: str, reason: str, message: str) -> Step:
        status = workload.status
        status["phase"] = phase
        status["exit"] = {"reason": reason, "message": message}
        status["ended"] = (status.get("history") or [{}])[-1].get("ended") or now()
        status.pop("current", None)
        status.pop("retry_at", None)
        if condition(status, "Retrying"):
            set_condition(status, "Retrying", "False", reason, "")
        if not (status.get("admission") or {}).get("admitted"):
            set_condition(status, "Admitted", "False", reason, message)
        set_condition(status, "Finished", "True", reason, message)
        await self._save(workload)
        self.reports.forget(workload.meta.uid)
        await tell(
            self.context, workload, phase, f"{reason}: {message}" if message else reason, warning=phase == FAILED
        )
        self.admission.forget(workload.meta.project, workload.meta.name)
        await self.admission.step()
        return Again(0.0) if workload.meta.deleted else Done()

    async def _remove(self, workload: Resource, spec: WorkloadSpec, engine: Engine | None) -> Step:
        """Deletion: nothing of it runs any more, then its files go, then its name is free."""
        if workload.status.get("current"):
            if engine is None:
                return Done()
            return await self._follow(workload, spec, engine)
        keeper: object = engine
        if isinstance(keeper, CanTidy):
            await keeper.remove(workload.meta.uid)
        if FINALIZER in workload.meta.finalizers:
            workload.meta.finalizers.remove(FINALIZER)
            await self._save(workload)
        self.reports.forget(workload.meta.uid)
        self.admission.forget(workload.meta.project, workload.meta.name)
        await self.admission.step()
        return Done()

    async def _save(self, workload: Resource) -> Resource:
        workload.status["observed_generation"] = workload.meta.generation
        return await self.context.database.update(workload, fence=fence(self.context))


async def _observe(engine: Engine, uid: str, attempt: int) -> Observed | None:
    """This attempt as the engine sees it; None when the engine does not know it."""
    found = [observed for observed in await engine.observe(uid) if observed.uid == uid]
    return next((observed for observed in found if observed.attempt == attempt), None)


def _seconds_until(moment: str | float | None) -> float:
    """Seconds from now to `moment`, epoch seconds or ISO 8601; negative when it is past, 0 when there is none."""
    if moment is None:
        return 0.0
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment).timestamp()
    return moment - time.time()
