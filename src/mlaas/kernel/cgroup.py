"""Control groups, version 1 and 2 (cgroups(7), kernel docs cgroup-v2): limits of memory and processes, shares of CPU.

CPU is given by weight, not by quota: a task may use cores that nobody else wants, and under load each gets its part.
Standard library only (the shim uses it). A group is described by plain data, so that it can lie in a file:
`{"version": 1|2, "paths": {controller: folder}}`.
"""

import os
import time
from typing import Any

_WANTED = ("memory", "cpu", "pids", "freezer")
PROCESSES = 4096
"""Most processes and threads of one replica: a fork bomb ends there."""
_SMALLEST = 0.1
"""Weight never goes below that of this many cores: less would starve even the start of an interpreter under load."""


def detect() -> dict[str, Any] | None:
    """The folders under which this process may create groups; None when it may not limit memory that way."""
    own = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, names, path = line.strip().split(":", 2)
            for name in names.split(","):
                own[name] = path
    mounts: dict[str, str] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            point = left.split(" ")[4]
            if kind == "cgroup2":
                mounts[""] = point
            elif kind == "cgroup":
                mounts.update(dict.fromkeys(set(options.strip().split(",")) & set(_WANTED), point))
    return _version1(own, mounts) or _version2(own, mounts)


def _version1(own: dict[str, str], mounts: dict[str, str]) -> dict[str, Any] | None:
    paths = {}
    for name in _WANTED:
        if name in mounts:
            for folder in (mounts[name] + own.get(name, "/").rstrip("/"), mounts[name]):
                if _writable(folder):
                    paths[name] = folder
                    break
    return {"version": 1, "paths": paths} if "memory" in paths else None


def _version2(own: dict[str, str], mounts: dict[str, str]) -> dict[str, Any] | None:
    if "" not in mounts:
        return None
    folder = mounts[""] + own.get("", "/").rstrip("/")
    try:
        controllers = _read(f"{folder}/cgroup.controllers").split()
        if "memory" not in controllers or not _writable(folder):
            return None
        wanted = " ".join(f"+{name}" for name in ("memory", "cpu", "pids") if name in controllers)
        if "memory" not in _read(f"{folder}/cgroup.subtree_control").split():
            _delegate(folder, wanted)
    except OSError:
        return None
    return {"version": 2, "paths": {"": folder}}


def _delegate(folder: str, wanted: str) -> None:
    """Pass controllers on to groups below. A group with members can't (the "no internal processes" rule), so the platform
    steps into a group of its own first; with other members than itself it stays refused."""
    try:
        _write(f"{folder}/cgroup.subtree_control", wanted)
    except OSError:
        if _read(f"{folder}/cgroup.procs").split() != [str(os.getpid())]:
            raise
        os.makedirs(f"{folder}/mlaas-platform", exist_ok=True)
        _write(f"{folder}/mlaas-platform/cgroup.procs", str(os.getpid()))
        _write(f"{folder}/cgroup.subtree_control", wanted)


def _writable(folder: str) -> bool:
    probe = f"{folder}/mlaas-probe-{os.getpid()}"
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError:
        return False
    return True


def group(base: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    """The description of the group `name` under `base`, not yet created."""
    if base is None:
        return None
    return {"version": base["version"], "paths": {key: f"{folder}/{name}" for key, folder in base["paths"].items()}}


def create(description: dict[str, Any], cpu: float, memory: int) -> None:
    """Create the group with its limits. Raises OSError when memory can't be limited."""
    paths = description["paths"]
    for folder in set(paths.values()):
        os.makedirs(folder, exist_ok=True)
    shares = max(2, int(1024 * max(cpu, _SMALLEST)))
    if description["version"] == 1:
        _write(f"{paths['memory']}/memory.limit_in_bytes", str(memory))
        _try(f"{paths['memory']}/memory.memsw.limit_in_bytes", str(memory))  # no swapping around the limit
        if "cpu" in paths:
            _try(f"{paths['cpu']}/cpu.shares", str(shares))
        if "pids" in paths:
            _try(f"{paths['pids']}/pids.max", str(PROCESSES))
        return
    folder = paths[""]
    _write(f"{folder}/memory.max", str(memory))
    _try(f"{folder}/memory.swap.max", "0")
    _try(f"{folder}/memory.oom.group", "1")
    # The conversion of shares to weight is that of runc, so that 1 cpu means the same as in a container.
    _try(f"{folder}/cpu.weight", str(max(1, min(10000, 1 + (shares - 2) * 9999 // 262142))))
    _try(f"{folder}/pids.max", str(PROCESSES))


def join(description: dict[str, Any]) -> None:
    """Put this process into the group. The memory group is a must."""
    for name, folder in description["paths"].items():
        if name in ("memory", ""):
            _write(f"{folder}/cgroup.procs", "0")
        else:
            _try(f"{folder}/cgroup.procs", "0")


def members(description: dict[str, Any] | None) -> list[int]:
    """pids of the group."""
    found: set[int] = set()
    for folder in set(description["paths"].values()) if description else ():
        try:
            found.update(int(pid) for pid in _read(f"{folder}/cgroup.procs").split())
        except OSError:
            continue
    return [pid for pid in found if pid]


def oom_kills(description: dict[str, Any] | None) -> int:
    """How often the kernel killed a member for want of memory."""
    if not description:
        return 0
    paths = description["paths"]
    path = f"{paths['memory']}/memory.oom_control" if description["version"] == 1 else f"{paths['']}/memory.events"
    try:
        for line in _read(path).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def remove(description: dict[str, Any] | None) -> None:
    """Remove the empty group. One that just emptied may be busy for a moment."""
    for folder in set(description["paths"].values()) if description else ():
        for _ in range(20):
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.005)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, value: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, value.encode())
    finally:
        os.close(handle)


def _try(path: str, value: str) -> None:
    try:
        _write(path, value)
    except OSError:
        pass
