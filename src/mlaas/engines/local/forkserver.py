"""The fork server: a process that has imported what tasks need, and forks their shims in milliseconds.

Runs as `python forkserver.py`, with a SOCK_SEQPACKET socket as descriptor 0 and nothing else inherited. First packet in: a
JSON list of modules to import, answered once they are with `{"seconds", "missing", "threads"}`. Then each packet in is the
folder of an attempt, answered by the pid of the shim forked for it, or by `stale` when it must not fork any more. It ends when
the socket closes, so never outlives the platform; its shims do, being their own sessions.

It imports and nothing more: a tensor operation would start threads, which do not survive a fork (a child's first matrix
product would wait for ever). Should an import have started one later, the count of threads tells, and it ends itself.
"""

import gc
import importlib
import json
import os
import shutil  # noqa: F401  the shim needs it at its end
import signal
import socket
import sys
import time
import traceback  # noqa: F401  for a shim that fails

sys.path.insert(0, os.path.abspath(__file__ + "/../../../.."))

from mlaas.engines.local import shim


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _import(names: list[str]) -> list[str]:
    """Import all that can be; what could not. Their absence is no error here: the task that needs one says so."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            missing.append(f"{name}: {type(error).__name__}: {error}")
    return missing


def serve(channel: socket.socket) -> None:
    """Fork a shim for each folder that comes in, until the other side closes."""
    request = channel.recv(1 << 16)
    if not request:
        return
    began = time.monotonic()
    modules = json.loads(request)
    missing = _import(modules)
    gc.collect()
    gc.freeze()  # no collection in a child touches, and so copies, what all share
    threads = _threads()
    channel.send(json.dumps({"seconds": time.monotonic() - began, "missing": missing, "threads": threads}).encode())
    while folder := channel.recv(1 << 16).decode():
        if _threads() > threads:
            channel.send(b"stale")
            return
        threads = _threads()  # OpenBLAS ends its idle threads when a process forks
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            channel.detach()
            os.closerange(3, 1 << 20)
            shim.run(folder, bool(modules))
        channel.send(str(pid).encode())


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # shims that end are nobody's to wait for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the platform's terminal is the platform's
    try:
        serve(socket.socket(fileno=os.dup(0)))
    except (ConnectionError, BrokenPipeError):
        pass
    os._exit(0)
