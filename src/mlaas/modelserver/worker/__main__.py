"""A worker process: `python -m mlaas.modelserver.worker ORDER`, where ORDER is JSON from the front that starts it.

    {"front": pid, "socket": descriptor, "arena": descriptor, "cgroup": {...} | null, "read": [...], "write": [...]}

Before anything of the model is imported, the process ties its life to the front's, joins its control group and gives up what it
does not need: files outside `read` and `write`, and a superuser's capabilities. It imports nothing that a model's own Python
environment may lack: standard library, NumPy and our modules of the same kind.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    _die_with(order["front"])
    os.register_at_fork(after_in_child=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))
    _first_to_go()
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
