"""How a task looks in the institute's form: `task_id`, `task_status`, `stats`, and what its recipe answered."""

from datetime import UTC, datetime
from typing import Any

from mlaas.kernel.resource import Json, Resource

RESULTS = ("history", "evaluation", "dataset", "predictions", "results", "index", "output", "warnings")
"""The keys of an answer that come from the recipe's result."""


def elapsed(seconds: float) -> str:
    """`H:MM:SS`, or `N day(s), H:MM:SS`, as `str(datetime.timedelta)` writes it without fractions."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days} day{'s' if days != 1 else ''}, {clock}" if days else clock


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def stats(task: Resource) -> Json:
    """`submitted` in UTC to the second; `elapsed` from then to the task's end, or to now."""
    submitted = moment(task.meta.created).astimezone(UTC)
    ended = (task.status.get("timestamps") or {}).get("ended")
    until = moment(ended) if ended else datetime.now(UTC)
    return {
        "submitted": submitted.replace(tzinfo=None).isoformat(timespec="seconds"),
        "elapsed": elapsed((until - submitted).total_seconds()),
    }


def brief(task: Resource) -> Json:
    """What POST answers, and an item of the list."""
    document: Json = {
        "task_id": task.meta.uid,
        "task_status": (task.phase or "Pending").lower(),
        "stats": stats(task),
        "name": task.meta.name,
        "project": task.meta.project,
    }
    if error := task.status.get("error"):
        document["error"] = _error(error)
    return document


def whole(task: Resource, large: dict[str, Any] | None = None) -> Json:
    """The full answer. `large`: results that are kept beside the status, read back."""
    status = task.status
    document = brief(task)
    for key in RESULTS:
        if key in status:
            document[key] = status[key]
    document.update(large or {})
    if status.get("progress"):
        document["progress"] = status["progress"]
    waiting = [c["message"] for c in status.get("conditions", []) if c["type"] == "Admitted" and c["status"] == "False"]
    if waiting and task.phase in ("Pending", "Queued"):
        document["message"] = waiting[0]
    return document


def _error(error: Json) -> Json:
    """`{code, message, hint}`, each always there."""
    return {"code": "internal", "message": "", "hint": "", **error}
