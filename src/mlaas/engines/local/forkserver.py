"""The fork server: a process that has imported what tasks need, and forks their shims in milliseconds.

Runs as `python forkserver.py`, with a SOCK_SEQPACKET socket as descriptor 0 and nothing else inherited. First packet in: a
JSON list of modules to import, answered once they are with `{"seconds", "missing", "threads"}`. Then each packet in is the
folder of an attempt, answered by `started` once a shim has it. It ends when the socket closes, so never outlives the platform;
its shims do, being their own sessions. One shim is always forked ahead, so that a start does not wait for a fork.

It imports and nothing more: a tensor operation would start threads, which do not survive a fork (a child's first matrix
product would wait for ever). Should an import have started one later, the count of threads tells, and it ends itself.
"""

import fcntl
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
    warm = bool(modules)
    spare = Spare(warm)
    threads = _threads()  # counted after the first fork: OpenBLAS ends its idle threads then
    channel.send(json.dumps({"seconds": time.monotonic() - began, "missing": missing, "threads": threads}).encode())
    while folder := channel.recv(1 << 16):
        channel.send(b"started" if spare.take(folder) else b"failed")
        if _threads() > threads:
            return
        spare = Spare(warm)
        threads = min(threads, _threads())


class Spare:
    """A shim with its child, forked ahead and waiting for the folder of an attempt. It ends with the fork server."""

    def __init__(self, warm: bool) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _be_spare(theirs, warm)
        theirs.close()

    def take(self, folder: bytes) -> bool:
        """Set it to work; False when it died."""
        try:
            self._ours.send(folder)
            return self._ours.recv(16) == b"taken"
        except OSError:
            return False
        finally:
            self._ours.close()


def _be_spare(channel: socket.socket, warm: bool) -> None:
    """Never returns."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        handle = fcntl.fcntl(channel.detach(), fcntl.F_DUPFD_CLOEXEC, 10)
        for number in range(3):
            os.dup2(null, number)
        os.dup2(handle, 3, inheritable=False)
        os.closerange(4, 1 << 20)
        waiting = socket.socket(fileno=3)
        child = shim.prepare(warm)
        folder = waiting.recv(1 << 16).decode()
        if folder:
            waiting.send(b"taken")
            waiting.close()
            shim.run(folder, child)
    finally:
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # shims that end are nobody's to wait for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the platform's terminal is the platform's
    try:
        serve(socket.socket(fileno=os.dup(0)))
    except (ConnectionError, BrokenPipeError):
        pass
    os._exit(0)
