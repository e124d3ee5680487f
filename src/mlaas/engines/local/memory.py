"""Memory of a replica by sampling, where no control group can limit it. Standard library only (the shim uses it).

Proportional set size shares the pages that several processes map among them (proc(5), smaps_rollup), so a forked recipe is
not charged for the libraries of the fork server. It is slow to read; resident set size is never less and cheap, so it is
asked first.
"""

import os

from mlaas.engines.local.process import below

_PAGE = os.sysconf("SC_PAGE_SIZE")


def used(root: int, limit: int) -> int:
    """Bytes of `root`'s descendants: an upper bound while that is below `limit`, else their proportional set size."""
    pids = below(root)
    resident = sum(_resident(pid) for pid in pids)
    return resident if resident < limit else sum(_proportional(pid) for pid in pids)


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
