"""What is, read from files and processes. Blocking: the engine calls it in a thread."""

import json
import os
import signal
from typing import Any

from mlaas.engines.local import ending, process, record
from mlaas.engines.local.layout import Place
from mlaas.kernel import cgroup
from mlaas.kernel.workload import Exit, Observed, Replica, ReplicaPhase

_CLEARED_WITHIN = 5.0  # seconds for the leftovers of a lost attempt to be dead


def observe(place: Place) -> tuple[Observed | None, list[dict[str, Any]]]:
    """The latest attempt of a workload, and the identities of the shims that watch it now.

    A shim that is gone without an exit record leaves a lost attempt: what still runs of it is killed here, and only when it was
    seen dead is the end recorded.
    """
    attempts = place.attempts()
    if not attempts:
        return None, []
    attempt = attempts[-1]
    replicas: list[Replica] = []
    shims: list[dict[str, Any]] = []
    report: dict[str, Any] | None = None
    started: str | None = None
    for role, index in place.gang(attempt)["replicas"]:
        folder = place.attempt(role, index, attempt)
        replica, shim, began = _replica(folder, role, index)
        replicas.append(replica)
        if shim:
            shims.append(shim)
        if began and (started is None or began < started):
            started = began
        report = report or record.read(f"{folder}/{record.REPORT}")
    _end_together(place, attempt, replicas)
    return Observed(place.uid, attempt, replicas, report, started), shims


def ended(observed: Observed) -> bool:
    """Whether every replica has its exit record."""
    return all(replica.exit is not None for replica in observed.replicas)


def points(folder: str, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of an attempt's reported metrics from byte `offset` on, and the offset behind them."""
    try:
        with open(f"{folder}/{record.POINTS}", "rb") as file:
            file.seek(offset)
            content = file.read(1 << 20)
    except FileNotFoundError:
        return [], offset
    whole = content[: content.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def _replica(folder: str, role: str, index: int) -> tuple[Replica, dict[str, Any] | None, str | None]:
    shim = record.read(f"{folder}/{record.SHIM}")
    if shim is None:
        return Replica(role, index, "Pending", message="It is being started."), None, None
    lives = process.alive(shim)  # asked first: a shim writes its exit record, then ends
    document = record.read(f"{folder}/{record.EXIT}")
    child = record.read(f"{folder}/{record.CHILD}") or {}
    if document is None and not lives:
        document = _lost(folder, shim, child)
    if document is not None:
        how = Exit(**document)
        phase: ReplicaPhase = {"Completed": "Succeeded", "Lost": "Lost"}.get(how.reason, "Failed")  # type: ignore[assignment]
        return Replica(role, index, phase, exit=how, message=how.message), None, how.started
    if not child:
        return Replica(role, index, "Pending", message="It is being started."), shim, None
    if not lives:
        return (
            Replica(role, index, "Running", message="Its supervisor was lost; what is left of it is being ended."),
            None,
            None,
        )
    return Replica(role, index, "Running", child["pid"], message=child["message"]), shim, child["started"]


def _lost(folder: str, shim: dict[str, Any], child: dict[str, Any]) -> dict[str, Any] | None:
    """End and record a lost attempt; None when something of it still lives."""
    order = record.read(f"{folder}/{record.ORDER}") or {}
    group = order.get("cgroup")
    if shim.get("boot") == process.boot_id():
        marker = f"MLAAS_REPLICA={order.get('marker')}"
        if not process.wait_gone(lambda: process.leftovers(shim, marker, cgroup.members(group)), _CLEARED_WITHIN):
            return None
        cgroup.remove(group)
        message = "The supervisor of the task was killed; what was left of it has been ended."
    else:
        message = "The machine was restarted while it ran."
    document = {
        "attempt": order.get("attempt", 0),
        "code": None,
        "signal": signal.SIGKILL.value,
        "reason": "Lost",
        "message": message,
        "started": child.get("started") or record.now(),
        "ended": record.now(),
        "oom": False,
        "by_platform": False,
    }
    ending.clean(folder, order)
    record.claim(f"{folder}/{record.EXIT}", document, sync=True)
    return record.read(f"{folder}/{record.EXIT}")


def _end_together(place: Place, attempt: int, replicas: list[Replica]) -> None:
    """One failed replica ends its gang. A shim sees to it itself; this is for the end of a shim that could not."""
    failed = [replica for replica in replicas if replica.exit and replica.exit.reason != "Completed"]
    if not failed or len(failed) == len(replicas):
        return
    for replica in replicas:
        folder = place.attempt(replica.role, replica.index, attempt)
        if replica.exit is None and not os.path.exists(f"{folder}/{record.STOP}"):
            order = record.read(f"{folder}/{record.ORDER}") or {}
            message = f"It was ended because replica {failed[0].role}-{failed[0].index} of its gang failed."
            ending.ask(folder, "Cancelled", message, float(order.get("grace", 10.0)))
