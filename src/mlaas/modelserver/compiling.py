"""Starts and bounds the process that compiles a model (`mlaas.modelserver.compile`)."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections import deque
from pathlib import Path

import msgspec

from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.modelserver.compile import ERROR, Order
from mlaas.modelserver.formats.base import INT8
from mlaas.modelserver.worker.order import confinement, program

SECONDS = 600.0
"""How long a compilation may take."""

_PASSED = frozenset(
    {
        "PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ",
        "CUDA_VISIBLE_DEVICES", "OMP_WAIT_POLICY",
    }
)  # fmt: skip
_OF_THIS_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})
_TAIL = 20


def bare_environment(home: Path, python: str = "") -> dict[str, str]:
    """An environment for opening what others made: only names known to hold no secret, and a home without any. An interpreter of
    the model's own finds its packages by itself."""
    passed = {name: value for name, value in os.environ.items() if name in _PASSED}
    if python:
        passed = {name: value for name, value in passed.items() if name not in _OF_THIS_PYTHON}
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    return {
        **passed,
        "HOME": str(home),
        "TMPDIR": str(home),
        "USER": "mlaas",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


async def run(order: Order, python: str = "", seconds: float = SECONDS) -> None:
    """Compile into the order's folder, in the interpreter `python` ("" is this one). The process reads the model and Python's own
    folders, writes into the order's folder and a temporary one, and sees no other file.

    Raises Invalid for a model that cannot be opened, that takes too long or that crashes its process (with the last line that it
    wrote), Unavailable when the process does not start. The error's notes are the last lines that the process wrote.
    """
    home = Path(tempfile.mkdtemp(prefix="mlaas-compile-"))
    try:
        await _run(order, python, seconds, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _run(order: Order, python: str, seconds: float, home: Path) -> None:
    named = [rows] if (rows := _rows_of(order)) else []
    read, write = confinement(Path(order.source), str(home), python=python, device=order.device, extra=named)
    order = msgspec.structs.replace(order, read=read, write=[*write, order.target] if write else [])
    try:
        process = await asyncio.create_subprocess_exec(
            *program("mlaas.modelserver.compile", python),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=bare_environment(home, python),
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"No process to open the model in: {error.strerror}.") from None
    try:
        async with asyncio.timeout(seconds):
            written = await _finish(process, msgspec.json.encode(order))
    except TimeoutError:
        raise Invalid(f"Opening and compiling the model took longer than {seconds:.0f} s.", field="source") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise _failure(Path(order.target), process.returncode, written)


def _rows_of(order: Order) -> str:
    """The file of rows that int8 is judged on, which may lie elsewhere than the model."""
    asked = order.options.get(INT8)
    return str(asked["rows"]) if asked else ""


async def _finish(process: asyncio.subprocess.Process, order: bytes) -> list[str]:
    """Send the order and wait for the end; the last lines that the process wrote."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(order)
        await process.stdin.drain()
        process.stdin.close()
    kept: deque[bytes] = deque(maxlen=_TAIL)
    while chunk := await process.stdout.read(1 << 16):
        kept.append(chunk[-4096:])
    await process.wait()
    return b"".join(kept).decode(errors="replace").strip().splitlines()


def _failure(home: Path, code: int, lines: list[str]) -> Invalid:
    failure = _said(home, code, lines[-1][:500] if lines else "")
    for line in lines:
        failure.add_note(line)
    return failure


def _said(home: Path, code: int, written: str) -> Invalid:
    try:
        said = msgspec.json.decode((home / ERROR).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        if code == -signal.SIGXCPU:
            return Invalid("Opening the model took more processor time than its limit.", field="source")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        hint = (
            "An out-of-memory kill looks like this: give the model more `memory`." if code == -signal.SIGKILL else None
        )
        return Invalid(f"The process that opened the model {how}. {written}".strip(), field="source", hint=hint)
    return Invalid(said.get("message"), field=said.get("field"), hint=said.get("hint"))
