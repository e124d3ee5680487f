"""A worker process: `python -m mlaas.modelserver.worker ORDER`, where ORDER is JSON from the front that starts it.

    {"front": pid, "socket": descriptor, "arena": descriptor, "cgroup": {...} | null, "read": [...], "write": [...]}

or, for a process that is started ahead of a model, with `"modules": [...]` in the place of what depends on the model: it imports
them and reads the rest from the socket (u32 little-endian length, JSON).

Before anything of the model is imported, the process ties its life to the front's, joins its control group and gives up what it
does not need: files outside `read` and `write`, and a superuser's capabilities. It imports nothing that a model's own Python
environment may lack: standard library, NumPy and our modules of the same kind.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import struct
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    _die_with(order["front"])
    os.register_at_fork(after_in_child=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))
    _first_to_go()
    if "modules" in order:
        order |= _wait(order["modules"], order["socket"])
    _confine(order)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    from mlaas.modelserver.worker import serving

    serving.run(order["socket"], order["arena"])


def _die_with(front: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != front:  # it died before the line above
        os._exit(1)


def _first_to_go() -> None:
    """When the machine runs out of memory, the kernel ends a worker before the front."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass


def _wait(modules: list[str], handle: int) -> dict[str, Any]:
    """Import what models need, then wait for the order of one. A module that cannot be imported is the affair of the model that
    needs it. Threads that a module started would stay outside of the confinement: the process ends rather than have some."""
    for name in (*modules, "mlaas.modelserver.worker.serving"):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        os._exit(0)
    with socket.socket(fileno=os.dup(handle)) as channel:
        size = channel.recv(4, socket.MSG_WAITALL)
        if len(size) < 4:
            os._exit(0)  # the front does not need it any more
        order: dict[str, Any] = json.loads(channel.recv(struct.unpack("<I", size)[0], socket.MSG_WAITALL))
    os.chdir(order["directory"])
    from mlaas.modelserver.worker.order import THREADS

    os.environ.update(dict.fromkeys(THREADS, str(order["threads"])))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(order["threads"])
    return order


def _confine(order: dict[str, Any]) -> None:
    from mlaas.kernel import cgroup, landlock

    landlock.prctl_name(b"mlaas-worker")
    if order["cgroup"]:
        cgroup.join(order["cgroup"])
    if order["read"]:
        landlock.restrict(order["read"], order["write"], landlock.SCOPE_SIGNAL | landlock.SCOPE_ABSTRACT_UNIX_SOCKET)
        landlock.drop_capabilities()


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
