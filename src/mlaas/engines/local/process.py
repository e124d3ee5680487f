"""Processes by identity, and all that lives below one. Reads /proc (proc(5)). Standard library only (the shim uses it).

A pid alone names nobody: it is reused. Boot id, pid and start time in clock ticks together are unique.
"""

import os
import signal
import time
from typing import Any

_boot = ""


def boot_id() -> str:
    """The random id of this boot of the machine (random(4))."""
    global _boot
    if not _boot:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _boot = file.read().strip()
    return _boot


def stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from `state` (0) on: ppid 1, pgrp 2, session 3, start ticks 19. None: no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].decode().split()
    except (OSError, ValueError):
        return None


def identity(pid: int) -> dict[str, Any]:
    """Names a running process for good."""
    fields = stat(pid)
    return {"boot": boot_id(), "pid": pid, "ticks": int(fields[19]) if fields else 0}


def alive(who: dict[str, Any]) -> bool:
    """Whether the process of this identity still runs; a zombie does not."""
    if who.get("boot") != boot_id():
        return False
    fields = stat(int(who["pid"]))
    return bool(fields) and fields is not None and int(fields[19]) == who["ticks"] and fields[0] not in "ZX"


def send(who: dict[str, Any], number: int) -> bool:
    """Signal exactly this process; False when it is gone. The pid can't be reused between look and signal (pidfd)."""
    try:
        handle = os.pidfd_open(int(who["pid"]))
    except OSError:
        return False
    try:
        if not alive(who):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def below(root: int) -> list[int]:
    """All living descendants of `root`, zombies left out."""
    found: list[int] = []
    todo = [root]
    while todo:
        children = _children(todo.pop())
        found += children
        todo += children
    return [pid for pid in found if (fields := stat(pid)) and fields[0] not in "ZX"]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            return _children_by_scan(pid)
    return found


def _children_by_scan(pid: int) -> list[int]:
    """For kernels without CONFIG_PROC_CHILDREN."""
    names = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [name for name in names if (fields := stat(name)) and int(fields[1]) == pid]


def leftovers(who: dict[str, Any], marker: str, cgroup_pids: list[int]) -> list[int]:
    """What a dead shim `who` left running: members of its cgroup and of its session, processes with `marker` in their
    environment, and everything below those. Only to be asked about a shim of this boot that is gone.

    The kernel does not reuse a pid while it still names a session; so when another process has the shim's pid now, that
    session has ended.
    """
    shim = int(who["pid"])
    session_over = stat(shim) is not None and not _is_zombie(who)
    found = set(cgroup_pids)
    needle = marker.encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        pid = int(name)
        fields = stat(pid)
        if not fields or fields[0] in "ZX":
            continue
        if int(fields[3]) == shim and not session_over:
            found.add(pid)
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if needle in file.read().split(b"\0"):
                    found.add(pid)
        except OSError:
            continue
    for pid in list(found):
        found.update(below(pid))
    return [pid for pid in found if (fields := stat(pid)) and fields[0] not in "ZX"]


def _is_zombie(who: dict[str, Any]) -> bool:
    fields = stat(int(who["pid"]))
    return fields is not None and int(fields[19]) == who["ticks"]


def kill(pids: list[int]) -> None:
    """KILL them; those that are gone already are fine."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def wait_gone(find: Any, seconds: float) -> bool:
    """Kill what `find()` returns until it returns nothing; False when something is left after `seconds`."""
    end = time.monotonic() + seconds
    pause = 0.002
    while pids := find():
        kill(pids)
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return True
