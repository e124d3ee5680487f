"""Starts and bounds the process that compiles a model (`mlaas.modelserver.compile`)."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from pathlib import Path

import msgspec

from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.modelserver.compile import ERROR, Order

SECONDS = 600.0
"""How long a compilation may take."""

_PASSED = frozenset(
    {
        "PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
        "MLAAS_CACHE", "CUDA_VISIBLE_DEVICES", "OMP_WAIT_POLICY",
    }
)  # fmt: skip
_TAIL = 20


def bare_environment(home: Path) -> dict[str, str]:
    """An environment for opening what others made: only names known to hold no secret, and a home without any."""
    passed = {name: value for name, value in os.environ.items() if name in _PASSED}
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    return {**passed, "HOME": str(home), "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}


async def run(order: Order, python: str = sys.executable, seconds: float = SECONDS) -> None:
    """Compile into the order's folder. Raises Invalid for a model that cannot be opened, that takes too long or that crashes its
    process (with the last line that it wrote), Unavailable when the process does not start."""
    home = Path(order.target)
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            "-m",
            "mlaas.modelserver.compile",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=bare_environment(home),
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
        raise _failure(home, process.returncode, written)


async def _finish(process: asyncio.subprocess.Process, order: bytes) -> str:
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
    lines = b"".join(kept).decode(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else ""


def _failure(home: Path, code: int, written: str) -> Invalid:
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
