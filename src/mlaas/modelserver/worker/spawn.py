"""Starts the process of a worker: for a model at once, or ahead of one, to import what such models need and wait."""

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlaas.kernel import cgroup
from mlaas.modelserver.worker import arena
from mlaas.modelserver.worker.order import Order, confinement, environment, program

_NO_LIMIT = 1 << 60


@dataclass(slots=True)
class Spawned:
    """A process as it was started: our end of its socket, the descriptors of the memory it shares with us and of what it writes,
    its temporary folder, its control group where it has one."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    arena: int
    output: int
    tmp: str
    cgroup: dict[str, Any] | None = None

    def abandon(self) -> None:
        """End a process that got no model, and let go of all that it has."""
        self.socket.close()
        os.close(self.arena)
        os.close(self.output)
        self.process.kill()
        self.process.wait()
        self.clean()

    def clean(self) -> None:
        """Remove what is left of it once it has ended."""
        cgroup.remove(self.cgroup)
        shutil.rmtree(self.tmp, ignore_errors=True)


def spawn(order: Order) -> Spawned:
    """A process for the model of this order. Raises OSError when it cannot be started."""
    tmp = _folder()
    group = _group(order, tmp)
    try:
        made = _spawn(_confined(order, tmp, group), order.python, order.threads, tmp, _directory(order.root))
    except OSError:
        cgroup.remove(group)
        raise
    made.cgroup = group
    return made


def spawn_ahead(modules: list[str]) -> Spawned:
    """A process of this interpreter that imports these modules and waits for `hand_over`. Raises OSError."""
    tmp = _folder()
    return _spawn({"modules": modules}, "", 1, tmp, tmp)


def hand_over(spare: Spawned, order: Order) -> bool:
    """Make a process that was spawned ahead the one of this order; False where it has ended meanwhile."""
    group = _group(order, spare.tmp)
    document = _confined(order, spare.tmp, group)
    document |= {"directory": _directory(order.root), "threads": order.threads or os.cpu_count() or 1}
    try:
        data = json.dumps(document).encode()
        spare.socket.sendall(struct.pack("<I", len(data)) + data)
    except OSError:
        cgroup.remove(group)
        return False
    spare.cgroup = group
    return True


def _confined(order: Order, tmp: str, group: dict[str, Any] | None) -> dict[str, Any]:
    read, write = confinement(order.root, tmp, python=order.python, device=order.device, extra=order.extra)
    return {"cgroup": group, "read": read, "write": write}


def _spawn(document: dict[str, Any], python: str, threads: int, tmp: str, directory: str) -> Spawned:
    mine, its = socket.socketpair()
    shared = arena.create()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    document = {"front": os.getpid(), "socket": its.fileno(), "arena": shared, **document}
    try:
        # From this thread: a worker gets a signal when the thread that started it ends (PR_SET_PDEATHSIG).
        process = subprocess.Popen(
            [*program("mlaas.modelserver.worker", python), json.dumps(document)],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            env=environment(tmp, python, threads),
            cwd=directory,
            pass_fds=(its.fileno(), shared),
            start_new_session=True,
        )
    except OSError:
        mine.close()
        os.close(reading)
        os.close(shared)
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    finally:
        its.close()
        os.close(writing)
    return Spawned(process, mine, shared, reading, tmp)


def _folder() -> str:
    return tempfile.mkdtemp(prefix=f"mlaas-worker-{os.getpid()}-")


def _directory(root: Path) -> str:
    return str(root if root.is_dir() else root.parent)


def _group(order: Order, tmp: str) -> dict[str, Any] | None:
    """A control group for it, where this process may make one: its limit, and whether the kernel killed in it."""
    group = cgroup.group(_base(), os.path.basename(tmp))
    if group is not None:
        try:
            cgroup.create(group, 1.0, order.memory or _NO_LIMIT)
        except OSError:
            cgroup.remove(group)
            return None
    return group


_found: list[dict[str, Any] | None] = []


def _base() -> dict[str, Any] | None:
    if not _found:
        base = None
        with contextlib.suppress(OSError):
            base = cgroup.detect()
        _found.append(base)
    return _found[0]
