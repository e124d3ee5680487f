"""What the SDK raises.

ApiError                  the platform refused; carries the whole problem document
├── Unreachable           no platform answers at the address
TaskFailed                the task that was waited for did not succeed
WaitTimeout               it did not end in time
"""

from typing import Any


class ApiError(Exception):
    """The platform answered with an RFC 9457 problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        self.hint = problem.get("hint")
        self.errors: list[dict[str, str]] = problem.get("errors") or []
        super().__init__(self.detail)


class Unreachable(ApiError):
    """Nothing answers at the platform's address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            0,
            {
                "code": "unreachable",
                "detail": f"No platform answers at {url}: {reason}.",
                "hint": "Start one with `mlaas up`, or set MLAAS_URL (and MLAAS_TOKEN).",
            },
        )


class TaskFailed(Exception):
    """The task ended Failed or Cancelled; `task` is the resource."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        status = task.get("status", {})
        self.error: dict[str, Any] = status.get("error") or {}
        hint = self.error.get("hint")
        self.hint = hint.replace("mlaas logs TASK", f"mlaas logs {task['meta']['name']}") if hint else None
        message = self.error.get("message") or f"it ended {status.get('phase')}"
        super().__init__(f"Task {task['meta']['name']}: {message}")


class WaitTimeout(Exception):
    """The task did not end in the time given."""
