"""What the child does between fork and its program: descriptors, limits, confinement, environment. Standard library only.

Two ways lead on: `exec` of a command (or of the recipe's interpreter), or, in a process that was forked from the warm fork
server, a call of the recipe in place.
"""

import fcntl
import importlib
import json
import os
import signal
import sys
from typing import Any

from mlaas.kernel import cgroup

NOT_STARTED = 127
_PR_SET_PDEATHSIG = 1


class Waiting:
    """A forked child that waits for its order. Forking it ahead keeps the cost of the fork (tens of milliseconds for a process
    with torch in it) out of a task's start.

    `output` is the reading end of its log, `failure` that of what went wrong before the program started.
    """

    def __init__(self, warm: bool) -> None:
        self.output, output = os.pipe2(os.O_CLOEXEC)
        self.failure, failure = os.pipe2(os.O_CLOEXEC)
        order, self._go = os.pipe2(os.O_CLOEXEC)
        shim = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            _child(output, failure, order, shim, warm)
        for handle in (output, failure, order):
            os.close(handle)

    def start(self, order: dict[str, Any], environment: dict[str, str]) -> None:
        """Let it become the task."""
        with open(self._go, "wb") as pipe:
            pipe.write(json.dumps({**order, "env": environment}).encode())

    def ended(self) -> bool:
        """Whether it is gone before it was needed."""
        return os.waitpid(self.pid, os.WNOHANG)[0] != 0


def _child(output: int, failure: int, waiting: int, shim: int, warm: bool) -> None:
    """Never returns. What goes wrong before the program starts is written to the pipe `failure`, which closes when it has."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        failure, waiting = _descriptors(output, failure, waiting)
        with open(waiting, "rb") as pipe:
            content = pipe.read()
        if not content:
            os._exit(0)  # the shim ended before there was anything to do
        order = json.loads(content)
        _become(order, failure, shim, warm)
    finally:
        os._exit(NOT_STARTED)


def _become(order: dict[str, Any], failure: int, shim: int, warm: bool) -> None:
    try:
        _settle(order, shim)
        command = order["command"]
        if not (warm and order.get("recipe")):
            os.execvpe(command[0], command, order["env"])  # noqa: S606
    except BaseException as error:
        os.write(failure, _words(error, order).encode()[:4000])
        os._exit(NOT_STARTED)
    os.close(failure)
    os._exit(_recipe(order, order["env"]))


def _descriptors(output: int, failure: int, waiting: int) -> tuple[int, int]:
    """Nothing to read, what is written goes to the log, nothing else is open but two pipes, whose numbers are returned."""
    null = os.open(os.devnull, os.O_RDONLY)
    high = [fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 10) for handle in (null, output, failure, waiting)]
    os.dup2(high[0], 0)
    os.dup2(high[1], 1)
    os.dup2(high[1], 2)
    os.dup2(high[2], 3, inheritable=False)
    os.dup2(high[3], 4, inheritable=False)
    os.closerange(5, 1 << 20)
    return 3, 4


def _settle(order: dict[str, Any], shim: int) -> None:
    os.setpgid(0, 0)
    if order.get("cgroup"):
        cgroup.join(order["cgroup"])
    _score()
    os.umask(0o022)
    os.chdir(order["cwd"])
    confine(order)
    if os.getppid() != shim:
        os._exit(NOT_STARTED)  # it died before the kernel was told that we die with it


def confine(order: dict[str, Any]) -> None:
    """Die with the shim, and restrict this process as `order` says."""
    from mlaas.kernel import landlock

    landlock.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    rules = order.get("confine")
    if rules:
        if rules.get("drop"):
            landlock.drop_capabilities()
        landlock.restrict(rules["read"], rules["write"], rules["scope"])


def _score() -> None:
    """When the machine runs out of memory, the kernel is to choose tasks before the platform."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("300")
    except OSError:
        pass


def _recipe(order: dict[str, Any], environment: dict[str, str]) -> int:
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [order["recipe"]]
    _reseed()
    runtime = importlib.import_module("mlaas.runtimes.child")

    code = 70
    try:
        code = int(runtime.run(order["recipe"]))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    return code


def _reseed() -> None:
    """Random state and thread counts were the parent's: every child must have its own."""
    import random

    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def _words(error: BaseException, order: dict[str, Any]) -> str:
    program = (order.get("command") or ["?"])[0]
    file = "" if not isinstance(error, OSError) or error.filename is None else os.fsdecode(error.filename)
    # A search along PATH fails with the last place where it looked.
    if isinstance(error, FileNotFoundError) and file in ("", program, os.path.join(os.path.dirname(file), program)):
        return f"The command '{program}' was not found."
    if isinstance(error, PermissionError):
        return f"'{file or program}' may not be executed or read by this task."
    return f"{type(error).__name__}: {error}"
