"""Following a task: a progress bar with time left on a terminal, lines elsewhere, the result at its end."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import typer

from mlaas.cli import output
from mlaas.client import Client, TaskFailed, WaitTimeout
from mlaas.client.calls import ENDED

Json = dict[str, Any]


def follow(api: Client, name: str, timeout: float | None = None) -> Json:
    """The task once it has ended; raises TaskFailed or WaitTimeout. Ctrl-C ends the following, not the task."""
    show = _bar if sys.stderr.isatty() else _lines
    deadline = None if timeout is None else time.monotonic() + timeout
    with leaving(name):
        task = show(api, name, deadline)
    if task["status"]["phase"] != "Succeeded":
        raise TaskFailed(task)
    return task


@contextlib.contextmanager
def leaving(name: str) -> Iterator[None]:
    """Say at a Ctrl-C that the task goes on, and how to come back to it or stop it; exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        output.note(f"\n{name} goes on. Follow it: mlaas wait {name}; stop it: mlaas cancel {name}")
        raise typer.Exit(output.INTERRUPTED) from None


def until_started(api: Client, name: str) -> None:
    """Return once the task has left the queue; when it has to wait, say for what."""
    said, started = "", time.monotonic()
    while True:
        status = api.get("tasks", name)["status"]
        if status.get("phase") not in ("Pending", "Queued", None):
            return
        why = output.waiting(status)
        if why and why != said and status.get("phase") == "Queued":
            output.note(f"{name}: Queued: {why}")
            said = why
        time.sleep(_pause(time.monotonic() - started))


def until_served(api: Client, name: str, timeout: float | None = None) -> Json:
    """The service once its latest predictor answers (Ready), or it is known that it will not (Failed, Degraded). Says each change
    on the way. Raises WaitTimeout."""
    deadline = None if timeout is None else time.monotonic() + timeout
    said, started = "", time.monotonic()
    while True:
        service = api.get("services", name)
        status = service["status"]
        phase = status.get("phase", "Pending")
        current = status.get("observed_generation") == service["meta"]["generation"]
        if current and phase in ("Ready", "Failed", "Degraded"):
            return service
        if deadline is not None and time.monotonic() > deadline:
            raise WaitTimeout(f"Service {name} is still {phase}.")
        why = output.waiting(status)
        text = f"{name}: {phase}" + (f": {why}" if why else "")
        if text != said:
            output.note(text)
            said = text
        time.sleep(_pause(time.monotonic() - started))


def _poll(api: Client, name: str, deadline: float | None) -> Json:
    task = api.get("tasks", name)
    if task["status"].get("phase") not in ENDED and deadline is not None and time.monotonic() > deadline:
        raise WaitTimeout(f"Task {name} is still {task['status'].get('phase')}.")
    return task


def _pause(elapsed: float) -> float:
    return min(0.05 + elapsed / 10, 1.0)


def _lines(api: Client, name: str, deadline: float | None) -> Json:
    last: tuple[Any, ...] = ()
    started = time.monotonic()
    while True:
        task = _poll(api, name, deadline)
        status = task["status"]
        text = f"{name}: {status.get('phase')}"
        why = output.waiting(status)
        if why and status.get("phase") not in ENDED:
            text += f": {why}"
        tenth = int(output.dig(status, "progress.percentage") or 0) // 10
        state = (status.get("phase"), tenth if status.get("phase") == "Running" else why)
        if state != last:
            output.note(text)
            last = state
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
