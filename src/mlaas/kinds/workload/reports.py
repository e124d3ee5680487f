"""What running replicas report: `status.progress` at most once a second, and every new value as a point of its metric."""

import math
import time
from datetime import datetime
from typing import Any

from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanReport, Engine
from mlaas.kernel.resource import Json, Resource, now
from mlaas.kernel.store.base import Event, Point
from mlaas.kernel.workload import Observed
from mlaas.kinds.workload.attempts import STEPS, progress_of

EVERY = 1.0
_NO_POINTS = (*STEPS, "total_steps")


class Reports:
    """Remembers what was written last, for each workload that runs."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._written: dict[str, float] = {}
        self._points: dict[str, dict[str, tuple[int, float]]] = {}

    def forget(self, uid: str) -> None:
        self._written.pop(uid, None)
        self._points.pop(uid, None)

    def take(self, workload: Resource, observed: Observed, *, final: bool = False) -> float | None:
        """Put the report into the status when it is time to; else the seconds until then. None: nothing is left to write."""
        progress = progress_of(observed.report or {})
        if not progress or progress == workload.status.get("progress"):
            return None
        uid = workload.meta.uid
        wait = self._written.get(uid, -math.inf) + EVERY - time.monotonic()
        if wait > 0 and not final:
            return wait
        workload.status["progress"] = progress
        self._written[uid] = time.monotonic()
        return None

    async def keep_points(self, workload: Resource, engine: Engine, observed: Observed) -> None:
        """Append what is new to the series of the workload's owner.

        How far the reports were read is kept in `status.current.points`, written with the progress: after a crash a second's
        values may be appended twice.
        """
        current = workload.status["current"]
        keeper: object = engine
        if isinstance(keeper, CanReport):
            reports, offset = await keeper.points(observed.uid, observed.attempt, int(current.get("points") or 0))
            if offset != current.get("points", 0):
                current["points"] = offset
        else:
            progress = progress_of(observed.report or {})
            reports = [{"time": now(), "metrics": progress.get("metrics", {})}]
        owner = owner_of(workload)["uid"]
        known = self._points.setdefault(workload.meta.uid, {})
        points = [point for report in reports for point in _points(owner, report, known)]
        if points:
            await self.context.database.append(points)


def _points(owner: str, report: Json, known: dict[str, tuple[int, float]]) -> list[Point]:
    """The points of one report; a metric is repeated in every report until it changes, and is kept once a step."""
    metrics: dict[str, float] = {}
    for name, value in (report.get("metrics") or {}).items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            metrics[str(name)[:200]] = number
    moment = datetime.fromisoformat(report["time"]).timestamp()
    step = next((int(metrics[name]) for name in STEPS if name in metrics), None)
    points = []
    for name, value in metrics.items():
        if name in _NO_POINTS:
            continue
        last = known.get(name)
        if last is not None and last[1] == value:
            continue
        at = step if step is not None else (last[0] + 1 if last else 0)
        known[name] = (at, value)
        points.append(Point(owner, name, at, moment, value))
    return points


def owner_of(workload: Resource) -> dict[str, str]:
    """Whose workload it is: {kind, name, uid}; its own when nobody owns it."""
    return workload.meta.owner or {"kind": workload.kind, "name": workload.meta.name, "uid": workload.meta.uid}


async def tell(context: Context, workload: Resource, reason: str, message: str, *, warning: bool = False) -> None:
    """An event in the journal of the workload's owner."""
    owner = owner_of(workload)
    kind: Any = "Warning" if warning else "Normal"
    project = workload.meta.project
    await context.database.record(
        Event(owner["uid"], project, owner["kind"], owner["name"], reason, message[:2000], type=kind)
    )
