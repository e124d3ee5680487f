"""What the child does between fork and its program: descriptors, limits, confinement, environment. Standard library only.

Two ways lead on: `exec` of a command (or of the recipe's interpreter), or, in a process that was forked from the warm fork
server, a call of the recipe in place.
"""

import importlib
import os
import signal
import sys
from typing import Any

from mlaas.engines.local import cgroup

NOT_STARTED = 127
_PR_SET_PDEATHSIG = 1


def child(order: dict[str, Any], environment: dict[str, str], output: int, failure: int, shim: int, warm: bool) -> None:
    """Become the task. Never returns; what goes wrong before the program starts is written to `failure`, which closes
    when it has started."""
    try:
        failure = _descriptors(output, failure)
        _settle(order, shim)
        if warm and order.get("recipe"):
            os.close(failure)
            failure = -1
            os._exit(_recipe(order, environment))
        command = order["command"]
        os.execvpe(command[0], command, environment)  # noqa: S606
    except BaseException as error:
        if failure < 0:
            raise
        os.write(failure, _words(error, order).encode()[:4000])
    finally:
        os._exit(NOT_STARTED)


def _descriptors(output: int, failure: int) -> int:
    """Nothing to read, everything written goes to the log, nothing else is open but `failure`, whose number is returned."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    moved = failure if failure == 3 else os.dup2(failure, 3, inheritable=False)
    os.closerange(moved + 1, 1 << 20)
    return moved


def _settle(order: dict[str, Any], shim: int) -> None:
    os.setpgid(0, 0)
    if order.get("cgroup"):
        cgroup.join(order["cgroup"])
    _score()
    os.umask(0o022)
    os.chdir(order["cwd"])
    confine(order)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if os.getppid() != shim:
        os._exit(NOT_STARTED)  # it died before the kernel was told that we die with it


def confine(order: dict[str, Any]) -> None:
    """Die with the shim, and restrict this process as `order` says."""
    from mlaas.engines.local import landlock

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
    if isinstance(error, FileNotFoundError) and error.filename in (None, program, program.encode()):
        return f"The command '{program}' was not found."
    if isinstance(error, PermissionError):
        return f"'{error.filename or program}' may not be executed or read by this task."
    return f"{type(error).__name__}: {error}"
