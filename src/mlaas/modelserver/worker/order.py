"""How a worker process is started: its command, its environment, what it may open, its limits."""

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlaas.kernel import landlock

_PACKAGE = Path(__file__).resolve().parents[2]
_PASSED = (
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
)
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
_SYSTEM = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc", "/sys", "/nix", "/gnu", "/snap",
]  # fmt: skip
_DEVICES = [
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/shm",  # noqa: S108
]  # fmt: skip
# Our package under its name, with nothing else of the folder that it lies in: packages of this interpreter must not come before
# those of the model's own environment.
_START = (
    "import sys,types,runpy;m=types.ModuleType('mlaas');m.__path__=[sys.argv.pop(1)];sys.modules['mlaas']=m;"
    "runpy.run_module(sys.argv.pop(1),run_name='__main__',alter_sys=False)"
)


@dataclass(frozen=True, slots=True)
class Order:
    """What all workers of one model have in common."""

    name: str  # of the model, for messages and logs
    root: Path
    format: str
    trusted: bool = False
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)
    python: str = ""  # interpreter of the model's own environment; "" is this one
    memory: int = 0  # bytes
    threads: int = 0  # of numeric libraries; 0: as many as there are cores
    extra: tuple[str, ...] = ()  # further paths that the model may read
    framework: str = ""  # of those that `spares` imports ahead


def program(module: str, python: str = "") -> list[str]:
    """The command that runs a module of ours in an interpreter; "" is this one, where our package is found by itself."""
    if python:
        return [python, "-P", "-c", _START, str(_PACKAGE), module]
    return [sys.executable, "-P", "-m", module]


def environment(tmp: str, python: str = "", threads: int = 0) -> dict[str, str]:
    """Built from an allow-list: no token, no credential, no home folder with either. `threads` 0: as many as there are cores."""
    made = {name: os.environ[name] for name in _PASSED if name in os.environ}
    made.setdefault("LANG", "C.UTF-8")
    made.update(dict.fromkeys(THREADS, str(threads or os.cpu_count() or 1)))
    made |= {
        "HOME": tmp,
        "TMPDIR": tmp,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait take the core from the front
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "USER": "mlaas",  # torch asks for it, and for a user's entry in /etc/passwd without it
    }
    if not python:
        made["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(_PACKAGE.parent), *filter(None, _python_path())]))
    return made


def _python_path() -> list[str]:
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


def confinement(
    root: Path, tmp: str, *, python: str = "", device: str = "cpu", extra: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """(readable, writable) for Landlock of a process that opens the model at `root` and writes to `tmp`; both empty where the
    kernel has none."""
    if not landlock.abi():
        return [], []
    own = python or sys.executable
    places = {os.path.dirname(os.path.dirname(own)), os.path.dirname(os.path.dirname(os.path.realpath(own)))}
    if not python:
        places |= {sys.prefix, sys.base_prefix, *sys.path, *_python_path()}
    programs = [os.path.realpath(place) for place in sorted(places) if place and os.path.isabs(place)]
    read = [*_SYSTEM, *(place for place in programs if place != "/"), str(_PACKAGE), str(root), *extra]
    write = [tmp, *_DEVICES]
    if device != "cpu":
        write += [*glob.glob("/dev/nvidia*"), "/dev/nvidia-caps", "/dev/kfd", "/dev/dri"]
    return read, write
