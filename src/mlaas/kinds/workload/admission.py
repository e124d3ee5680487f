"""Admission over the store: writes `status.admission` and the condition `Admitted` of workloads, and nothing else of them.

What waits and what holds is kept in memory, filled from the store when this platform begins to lead and corrected by every
workload that the reconciler reads: a step costs no listing, however many wait.
"""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

from mlaas.kernel.context import Context
from mlaas.kernel.engine import Engine
from mlaas.kernel.errors import Conflict, Fenced, NotFound
from mlaas.kernel.resource import PLATFORM, Json, Resource, now, set_condition
from mlaas.kernel.store.base import Query
from mlaas.kernel.workload import Resources, WorkloadSpec
from mlaas.kinds.workload.queue import Amount, Entry, Verdict, decide, order
from mlaas.kinds.workload.spec import ENDED, PENDING, RUNNING

EXPLAINED = 10
REWRITE = 2.0
"""Seconds between two rewrites of one workload's waiting message."""
REFRESH = 30.0
"""Seconds after which the message of one far back is written anew, `EXPLAINED` of them a step."""


@dataclass(slots=True)
class _Shown:
    """The waiting message that the store holds, and when it was written (monotonic)."""

    message: str
    passed: float | None
    at: float
    reason: str = ""
    stale: bool = False


def needs(spec: WorkloadSpec) -> Amount:
    """What the whole gang takes."""
    total = Amount()
    for role in spec.roles:
        each = Amount(role.resources.cpu, role.resources.memory, role.resources.gpu)
        total = total + each.times(role.replicas)
    return total


def whole(capacity: Resources) -> Amount:
    return Amount(capacity.cpu, capacity.memory, capacity.gpu)


class Admission:
    """Lets workloads in. One per platform; only the leader steps."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.entries: dict[str, Entry] = {}
        self.places: dict[tuple[str, str], str] = {}  # (project, name) -> uid
        self._shown: dict[str, _Shown] = {}
        self._lock = asyncio.Lock()
        self._filled_under: int | None = None
        self._filled = False

    def see(self, workload: Resource) -> bool:
        """Take in what the reconciler has just read. True when admission has to look again."""
        meta = workload.meta
        if workload.phase in ENDED:
            return self.forget(meta.project, meta.name)
        spec = WorkloadSpec.model_validate(workload.spec)
        admission: Json = workload.status.get("admission") or {}
        engine = self.context.engine_named(spec.engine)
        entry = Entry(
            uid=meta.uid,
            project=meta.project,
            name=meta.name,
            title=(meta.owner or {}).get("name") or meta.name,
            needs=needs(spec),
            engine=engine.name if engine else "",
            priority=spec.priority,
            created=meta.created,
            interactive=spec.interactive,
            server=spec.mode == "server",
            suspended=spec.suspend or spec.cancel or meta.deleted is not None,
            admitted=bool(admission.get("admitted")),
            passed=admission.get("passed"),
        )
        before = self.entries.get(meta.uid)
        if before is not None and before.admitted and not entry.admitted:
            self._shown.pop(meta.uid, None)
        self.entries[meta.uid] = entry
        self.places[(meta.project, meta.name)] = meta.uid
        return entry != before

    def forget(self, project: str, name: str) -> bool:
        """It is over, or gone: what it held is free. False when it was not known."""
        uid = self.places.pop((project, name), None)
        if uid is None:
            return False
        self.entries.pop(uid, None)
        self._shown.pop(uid, None)
        return True

    def place_of(self, uid: str) -> tuple[str, str] | None:
        """(project, name) of a workload that is not over."""
        entry = self.entries.get(uid)
        return (entry.project, entry.name) if entry else None

    def recheck_after(self, uid: str) -> float | None:
        """Seconds after which a waiting workload is worth another look though nothing was heard; None: never."""
        shown = self._shown.get(uid)
        if shown is None:
            return None
        if shown.stale:
            return REWRITE
        # A quota may be changed, and the time in which others pass runs out: neither is a change of this workload.
        return REFRESH if shown.passed is not None or shown.reason == "Quota" else None

    async def step(self, own: Resource | None = None) -> None:
        """Admit what fits, and say to the others why they wait.

        If it is `own` that is let in, this is put into its status and left to the caller to write, with the attempt that it
        starts: one write less on the way from a submission to a process.
        """
        async with self._lock:
            await self._fill()
            for engine in [*self.context.engines.values(), None]:
                name = engine.name if engine else ""
                mine = [entry for entry in self.entries.values() if entry.engine == name]
                if not any(not entry.admitted and not entry.suspended for entry in mine):
                    continue
                if engine is None:
                    verdicts = {e.uid: self._no_engine(e) for e in mine if not e.admitted and not e.suspended}
                else:
                    verdicts = await self._verdicts(engine, mine)
                await self._write(verdicts, own)

    async def _verdicts(self, engine: Engine, mine: list[Entry]) -> dict[str, Verdict]:
        capacity = whole(await engine.capacity())
        moment = time.monotonic()
        waiting = [entry for entry in mine if not entry.admitted and not entry.suspended]
        silent = {entry.uid for entry in waiting if entry.uid not in self._shown}
        old = [e.uid for e in order(waiting) if e.uid in self._shown and moment - self._shown[e.uid].at > REFRESH]
        return decide(
            mine,
            capacity,
            time.time(),
            admit=self.context.settings.admit,
            explained=EXPLAINED,
            unexplained=silent | set(old[:EXPLAINED]),
            quotas=await self._quotas({entry.project for entry in waiting}),
        )

    async def _quotas(self, projects: set[str]) -> dict[str, Amount]:
        """What each of these projects may have at most; those without a quota are not there."""
        quotas: dict[str, Amount] = {}
        for name in projects:
            try:
                project = await self.context.database.get("project", PLATFORM, name)
            except NotFound:
                continue
            quota: Json = project.spec.get("quota") or {}
            limits = {key: value for key, value in quota.items() if value is not None}
            if limits:
                quotas[name] = Amount(
                    limits.get("cpu", math.inf), limits.get("memory", 1 << 62), limits.get("gpu", 1 << 30)
                )
        return quotas

    def _no_engine(self, entry: Entry) -> Verdict:
        here = ", ".join(self.context.engines) or "none"
        return Verdict(False, "NoEngine", f"the engine it names is not here; engines here: {here}")

    async def _write(self, verdicts: dict[str, Verdict], own: Resource | None) -> None:
        moment = time.monotonic()
        for uid, verdict in verdicts.items():
            if own is not None and verdict.admitted and uid == own.meta.uid:
                entry = self.entries[uid]
                _apply(own, entry, verdict)
                entry.admitted, entry.passed = True, None
                self._shown.pop(uid, None)
                continue
            shown = self._shown.get(uid)
            if not verdict.admitted and shown is not None:
                if shown.message == verdict.message or not verdict.message:
                    if shown.passed == verdict.passed:
                        continue
                elif moment - shown.at < REWRITE and shown.passed == verdict.passed:
                    shown.stale = True
                    continue
            await self._record(self.entries[uid], verdict)

    async def _record(self, entry: Entry, verdict: Verdict) -> None:
        database = self.context.database
        for _ in range(4):
            try:
                workload = await database.get("workload", entry.project, entry.name)
                if workload.meta.uid != entry.uid or workload.phase in ENDED:
                    self.forget(entry.project, entry.name)
                    return
                if _held_back(workload):  # suspended, cancelled or deleted since: not to be let in now
                    self.see(workload)
                    return
                _apply(workload, entry, verdict)
                await database.update(workload, fence=fence(self.context))
            except Fenced:
                raise
            except Conflict:
                continue
            except NotFound:
                self.forget(entry.project, entry.name)
                return
            entry.admitted = verdict.admitted
            entry.passed = verdict.passed
            if verdict.admitted:
                self._shown.pop(entry.uid, None)
                self.context.hint("workload", entry.project, entry.name)
            else:
                message = verdict.message or self._shown[entry.uid].message
                self._shown[entry.uid] = _Shown(message, verdict.passed, time.monotonic(), verdict.reason)
            return

    async def _fill(self) -> None:
        """From the store, once for every time this platform begins to lead."""
        epoch = self.context.fence()
        if self._filled and epoch == self._filled_under:
            return
        self.entries.clear()
        self.places.clear()
        self._shown.clear()
        after: str | None = None
        phases = frozenset({PENDING, RUNNING})
        while True:
            page = await self.context.database.list(Query(kind="workload", phases=phases, limit=500, after=after))
            for workload in page.items:
                self.see(workload)
            after = page.next
            if after is None:
                break
        self._filled, self._filled_under = True, epoch


def _held_back(workload: Resource) -> bool:
    spec = workload.spec
    return bool(spec.get("suspend") or spec.get("cancel") or workload.meta.deleted)


def _apply(workload: Resource, entry: Entry, verdict: Verdict) -> None:
    status = workload.status
    before: Json = status.get("admission") or {}
    document: dict[str, Any] = {"admitted": verdict.admitted, "needs": entry.needs.document()}
    if verdict.admitted:
        document |= {"engine": entry.engine, "since": now()}
        set_condition(status, "Admitted", "True", verdict.reason, verdict.message)
    else:
        message = verdict.message or before.get("message", "")
        document |= {"position": verdict.position, "reason": verdict.reason, "message": message}
        document |= {"free": verdict.free.document(), "holders": list(verdict.holders)}
        document |= {"unblocked_by": list(verdict.needed_to_end)}
        if verdict.passed is not None:
            document["passed"] = verdict.passed
        set_condition(status, "Admitted", "False", verdict.reason, message)
    status["admission"] = document


def release(status: Json, reason: str, message: str) -> None:
    """Give back what an admitted workload held; it waits anew when it may."""
    admission: Json = status.get("admission") or {}
    status["admission"] = {"admitted": False, "needs": admission.get("needs", {}), "reason": reason, "message": message}
    set_condition(status, "Admitted", "False", reason, message)


def fence(context: Context) -> int:
    """The epoch to write under. Raises Fenced while this platform does not lead."""
    epoch = context.fence()
    if epoch is None:
        raise Fenced("This platform does not lead now.")
    return epoch
