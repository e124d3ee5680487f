"""What an attempt's end means, as pure functions: success, a failure of its own, or an interruption; and when the next begins."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlaas.kernel.workload import Collected, Exit, Observed, Replica, WorkloadSpec
from mlaas.runtimes.taskfile import FAILED, INTERRUPTED

Outcome = Literal["success", "failure", "final", "interruption"]
MOST_INTERRUPTIONS = 20
"""In a row, without progress between them."""

ENDED = frozenset({"Succeeded", "Failed", "Lost"})
STEPS = ("current_step", "step", "global_step")
"""Metrics that say which step the others belong to; the first is what transformers' KubeflowCallback sends."""


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended. `final`: a failure that another attempt would repeat."""

    outcome: Outcome
    reason: str
    message: str
    code: int | None = None
    signal: int | None = None


def all_ended(replicas: Sequence[Replica]) -> bool:
    return bool(replicas) and all(replica.phase in ENDED for replica in replicas)


def gang_broken(replicas: Sequence[Replica]) -> bool:
    """One replica is gone without success while another still runs: the rest of the gang waits for it in vain."""
    return any(r.phase in ("Failed", "Lost") for r in replicas) and not all_ended(replicas)


def judge(spec: WorkloadSpec, replicas: Sequence[Replica]) -> End:
    """The end of an attempt whose replicas have all ended: that of the replica that went first by itself, if any failed."""
    if all(r.phase == "Succeeded" for r in replicas):
        last = replicas[0].exit
        return End("success", "Completed", last.message if last else "completed", 0)
    broken = [r for r in replicas if r.phase != "Succeeded"]
    own = [r for r in broken if r.exit is None or not r.exit.by_platform] or broken
    first = min(own, key=lambda r: r.exit.ended if r.exit else "9")
    if first.exit is None:
        return End("interruption", "Lost", first.message or "the process is gone and left no exit record")
    recipe = next((role.recipe for role in spec.roles if role.name == first.role), None)
    ending = first.exit
    return End(_outcome(ending, recipe is not None), ending.reason, ending.message, ending.code, ending.signal)


def _outcome(ending: Exit, recipe: bool) -> Outcome:
    if ending.oom or ending.reason in ("OOMKilled", "TimeLimit", "StartError"):
        return "failure"
    if ending.reason == "Lost" or ending.code == INTERRUPTED:
        return "interruption"
    if ending.signal is not None or ending.by_platform:  # a signal of the platform's own was a pause or a cancel
        return "interruption"
    if recipe and ending.code == FAILED:
        return "final"
    return "failure"


def progress_mark(observed: Observed, left: Collected | None = None) -> list[float]:
    """How far an attempt came, to be compared with an earlier one's: percentage, step and checkpoints. What it saved counts
    also when it died before it could report it."""
    report = observed.report or {}
    steps = [float(m["value"]) for m in _metrics(report) if m["name"] in STEPS]
    return [float(report.get("progressPercentage") or 0), max(steps, default=0.0), left.reached if left else 0.0]


def progress_of(report: dict[str, Any]) -> dict[str, Any]:
    """`{percentage, remaining_seconds, metrics, message}` of a `trainerStatus` report."""
    progress: dict[str, Any] = {}
    if report.get("progressPercentage") is not None:
        progress["percentage"] = report["progressPercentage"]
    if report.get("estimatedRemainingSeconds") is not None:
        progress["remaining_seconds"] = report["estimatedRemainingSeconds"]
    values = {str(m["name"]): float(m["value"]) for m in _metrics(report)}
    if values:
        progress["metrics"] = values
    if report.get("message"):
        progress["message"] = str(report["message"])[:500]
    return progress


def _metrics(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The report's metrics that are numbers. A foreign program may send anything."""
    found = []
    metrics = report.get("metrics")
    for metric in metrics if isinstance(metrics, list) else []:
        try:
            float(metric["value"])
            found.append({"name": str(metric["name"])[:200], "value": metric["value"]})
        except (TypeError, ValueError, KeyError):
            continue
    return found[:200]


def delay(outcome: Outcome, count: int) -> float:
    """Seconds until the next attempt, after the `count`th failure or interruption in a row; with up to 20% of jitter."""
    base, most = (0.25, 60.0) if outcome == "interruption" else (1.0, 300.0)
    return float(min(most, base * 2 ** min(max(0, count - 1), 30)) * random.uniform(1.0, 1.2))


def replica_status(replica: Replica) -> dict[str, Any]:
    """One replica as the workload's status shows it."""
    document: dict[str, Any] = {"role": replica.role, "index": replica.index, "phase": replica.phase}
    if replica.pid is not None:
        document["pid"] = replica.pid
    if replica.message:
        document["message"] = replica.message
    if replica.exit is not None:
        document["exit"] = asdict(replica.exit)
    return document
