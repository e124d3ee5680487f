"""The end of a replica in words, and what is cleaned up after it. Standard library only (the shim uses it)."""

import os
import signal
from typing import Any

from mlaas.engines.local import process, record


def describe(
    order: dict[str, Any], started: str, status: int | None, stop: dict[str, Any] | None, oom: bool, failure: str
) -> dict[str, Any]:
    """The exit record (`kernel.workload.Exit`) of wait status `status`, after `stop` was begun (if it was).

    A recipe that returned 0 has completed, even when it was being stopped: one that was interrupted says so by its code. A
    command proves nothing by 0 once it was asked to end.
    """
    code: int | None = None
    signal_number: int | None = None
    if status is not None:
        value = os.waitstatus_to_exitcode(status)
        code, signal_number = (value, None) if value >= 0 else (None, -value)
    by_platform = bool(stop and stop.get("by_platform"))
    if code == 0 and (not stop or order.get("recipe")):
        reason, message, by_platform = "Completed", "", False
    elif failure:
        reason, message, by_platform = "StartError", failure, False
    elif oom and not by_platform:
        limit = order["memory"] / (1 << 20)
        reason = "OOMKilled"
        message = f"It was killed because it used more memory than its limit of {limit:.0f} MiB; ask for more memory."
    elif stop:
        reason, message = stop["reason"], stop["message"]
        if status is not None:
            message = f"{message} {_ended(code, signal_number)}".strip()
    elif signal_number is not None:
        reason, message = "Signal", _ended(code, signal_number)
    else:
        reason, message = "Error", _ended(code, signal_number)
    if code is None and signal_number is None:
        signal_number = signal.SIGKILL.value  # never started, or not to be reaped
    return {
        "attempt": order.get("attempt", 0),
        "code": code,
        "signal": signal_number,
        "reason": reason,
        "message": message,
        "started": started,
        "ended": record.now(),
        "oom": oom,
        "by_platform": by_platform,
    }


def _ended(code: int | None, number: int | None) -> str:
    if number is None:
        return f"It ended with exit code {code}."
    try:
        name = signal.Signals(number).name
        what = signal.strsignal(number)
    except ValueError:
        name, what = str(number), None
    return f"It was ended by signal {name} ({what.lower()})." if what else f"It was ended by signal {name}."


def clean(folder: str, order: dict[str, Any]) -> None:
    """What is void at the end: the token, the credentials, the private temporary folder."""
    for name in (record.TOKEN, record.CREDENTIALS):
        try:
            os.unlink(f"{folder}/{name}")
        except OSError:
            continue
    if order.get("tmp"):
        import shutil  # slow to import, and not needed by a shim before its end

        shutil.rmtree(order["tmp"], ignore_errors=True)


def end_peers(order: dict[str, Any]) -> None:
    """One failed replica ends its gang: ask the shims of the others, which may be starting just now."""
    message = f"It was ended because replica {order['role']}-{order['index']} of its gang failed."
    for folder in order.get("peers", []):
        ask(folder, "Cancelled", message, float(order.get("grace", 10.0)))


def ask(folder: str, reason: str, message: str, grace: float) -> None:
    """Ask for the end of the replica in `folder`. One that has no shim yet never starts."""
    if os.path.exists(f"{folder}/{record.EXIT}"):
        return
    request: dict[str, Any] = {"reason": reason, "message": message, "grace": grace}
    try:
        if not record.claim(f"{folder}/{record.STOP}", request):
            before = record.read(f"{folder}/{record.STOP}") or request
            record.write(f"{folder}/{record.STOP}", {**before, "grace": min(grace, before["grace"])})
    except FileNotFoundError:
        return
    if record.claim(f"{folder}/{record.SHIM}", {"boot": "", "pid": 0, "ticks": 0}):
        order = record.read(f"{folder}/{record.ORDER}") or {}
        stop = {**request, "by_platform": True}
        record.claim(f"{folder}/{record.EXIT}", describe(order, record.now(), None, stop, False, ""), sync=True)
        clean(folder, order)
        return
    shim = record.read(f"{folder}/{record.SHIM}")
    if shim:
        process.send(shim, signal.SIGTERM)
