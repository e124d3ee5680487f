"""Following a task: a progress bar with time left on a terminal, lines elsewhere, the result at its end."""

import sys
import time
from typing import Any

from mlaas.cli import output
from mlaas.client import Client, TaskFailed, WaitTimeout
from mlaas.client.calls import ENDED

Json = dict[str, Any]


def follow(api: Client, name: str, timeout: float | None = None) -> Json:
    """The task once it has ended; raises TaskFailed or WaitTimeout."""
    show = _bar if sys.stderr.isatty() else _lines
    deadline = None if timeout is None else time.monotonic() + timeout
    task = show(api, name, deadline)
    if task["status"]["phase"] != "Succeeded":
        raise TaskFailed(task)
    return task


def _poll(api: Client, name: str, deadline: float | None) -> Json:
    task = api.get("tasks", name)
    if task["status"].get("phase") not in ENDED and deadline is not None and time.monotonic() > deadline:
        raise WaitTimeout(f"Task {name} is still {task['status'].get('phase')}.")
    return task


def _pause(elapsed: float) -> float:
    return min(0.05 + elapsed / 10, 1.0)


def _lines(api: Client, name: str, deadline: float | None) -> Json:
    last, started = "", time.monotonic()
    while True:
        task = _poll(api, name, deadline)
        status = task["status"]
        text = f"{name}: {status.get('phase')}"
        why = output.waiting(status)
        if why and status.get("phase") not in ENDED:
            text += f": {why}"
        if text != last:
            output.note(text)
            last = text
        if status.get("phase") in ENDED:
            return task
        time.sleep(_pause(time.monotonic() - started))


def _bar(api: Client, name: str, deadline: float | None) -> Json:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(name, total=None, text="")
        while True:
            task = _poll(api, name, deadline)
            status = task["status"]
            now = status.get("progress") or {}
            if now.get("percentage") is not None:
                progress.update(bar, total=100.0, completed=now["percentage"])
            why = output.waiting(status) or now.get("message") or ""
            progress.update(bar, description=f"{name}: {status.get('phase')}", text=why)
            if status.get("phase") in ENDED:
                return task
            time.sleep(_pause(time.monotonic() - started))
