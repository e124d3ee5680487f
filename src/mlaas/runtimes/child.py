"""The process that a recipe runs in: `python -m mlaas.runtimes.child MODULE`, or `run(MODULE)` in a forked child.

The contract with the platform is in `taskfile.py`. For recipes: SIGTERM asks to stop. A recipe that has something to save
polls `stopping()`, and raises `Interrupted` once it has saved; from its first poll on, the signal only sets that flag. Before
that (while a model is loading, say) there is nothing to save, so `Interrupted` is raised where the signal finds the recipe.
"""

import errno
import importlib
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from mlaas.kernel.errors import Error, Full, OutOfMemory, TooLarge
from mlaas.runtimes import report
from mlaas.runtimes.taskfile import CRASHED, FAILED, INTERRUPTED, LARGEST_RESULT, RESULT, Interrupted, TaskFile

_CREDENTIALS = ("AWS_", "HF_")


class _Stop:
    asked = False
    polled = False


def stopping() -> bool:
    """Whether the platform has asked this process to end: save, then raise `Interrupted`."""
    _Stop.polled = True
    return _Stop.asked


def _on_term(_signal: int, _frame: FrameType | None) -> None:
    first, _Stop.asked = not _Stop.asked, True
    if first and not _Stop.polled:
        raise Interrupted


def _send_again() -> None:
    """See to it that the handler of SIGTERM runs. Python runs it between two instructions of the main thread: a signal that
    comes just before a blocking call, or to another thread, would wait for that call's end. It is sent to the main thread
    again until the handler was there."""
    arrived, announce = os.pipe()
    os.set_blocking(announce, False)
    signal.set_wakeup_fd(announce, warn_on_full_buffer=False)
    os.register_at_fork(
        after_in_child=lambda: signal.set_wakeup_fd(-1)
    )  # a child's signals are no concern of this process
    main = threading.get_ident()

    def watch() -> None:
        while number := os.read(arrived, 1):
            while number[0] == signal.SIGTERM and not _Stop.asked:
                time.sleep(0.2)
                signal.pthread_kill(main, signal.SIGTERM)

    threading.Thread(target=watch, name="sigterm", daemon=True).start()


def run(module: str) -> int:
    """Run a recipe module's `main` on the task file of this process; the exit code. Writes `result.json` in every case but
    `INTERRUPTED`."""
    _Stop.asked = _Stop.polled = False
    signal.signal(signal.SIGTERM, _on_term)
    _send_again()
    try:
        document, code = _attempt(module)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the work is done: nothing may stop its result now
    except Interrupted:
        print("Interrupted by SIGTERM; the next attempt goes on from the last checkpoint.", file=sys.stderr)
        document, code = {}, INTERRUPTED
    report.close_all()
    if document:
        data = _json(document)
        if len(data) > LARGEST_RESULT:
            data, code = _json({"error": _too_large(len(data)).summary()}), FAILED
        _write(data)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _attempt(module: str) -> tuple[dict[str, Any], int]:
    try:
        task = TaskFile.load()
        load_credentials()
        return {"result": plain(importlib.import_module(module).main(task))}, 0
    except Interrupted:
        raise
    except Exception as error:
        if _Stop.asked and not _Stop.polled:
            raise Interrupted from error  # a library turned the signal's exception into one of its own
        known = translate(error)
        if known is not None:
            print(f"error: {known.message}" + (f"\nhint: {known.hint}" if known.hint else ""), file=sys.stderr)
            return {"error": known.summary()}, FAILED
        traceback.print_exc()
        return {"error": _crash(error)}, CRASHED


def load_credentials() -> None:
    """Put AWS_* and HF_* of the credentials file into the environment; other names in it are ignored."""
    path = os.environ.get("MLAAS_CREDENTIALS_FILE")
    if path:
        values: dict[str, str] = json.loads(Path(path).read_text())
        os.environ.update({key: str(value) for key, value in values.items() if key.startswith(_CREDENTIALS)})


def translate(error: BaseException) -> Error | None:
    """What a failure means for the user, where it is known: an `Error` is itself, a full disk is `Full`, too little memory
    (of the machine or of an accelerator) is `OutOfMemory`; None for everything else."""
    if isinstance(error, Error):
        return error
    text = str(error)
    if (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    ) or "No space left on device" in text:
        return Full(f"The disk is full: {_one_line(text)}.", hint="Free some space, or name a target on another disk.")
    torch = sys.modules.get("torch")
    accelerator = getattr(torch, "OutOfMemoryError", None)
    if (accelerator is not None and isinstance(error, accelerator)) or "CUDA out of memory" in text:
        return OutOfMemory(
            "The accelerator's memory was not enough.",
            hint="Use a smaller batch_size with accumulation, a shorter max_length, or lora.",
        )
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return OutOfMemory(
            "The memory was not enough.", hint="Ask for more in resources.memory, or use a smaller batch_size."
        )
    return None


def plain(value: Any) -> Any:
    """A result as JSON can say it: NumPy numbers and arrays become Python's, numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def _crash(error: Exception) -> dict[str, str]:
    return {
        "code": "internal",
        "message": f"The recipe stopped with {type(error).__name__}: {_one_line(str(error))}",
        "hint": "The task's log has the details.",
    }


def _one_line(text: str, length: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _json(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:  # a whole number of more than 64 bits, a text with half a surrogate pair
        return json.dumps(document).encode()


def _too_large(size: int) -> TooLarge:
    return TooLarge(
        f"The answer has {size >> 20:,} MiB; at most {LARGEST_RESULT >> 20} are kept.",
        field="predict_input.input_text",
        hint="Ask for fewer inputs at once; for the vectors of many documents build an index.",
    )


def _write(data: bytes) -> None:
    partial = Path(RESULT + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(RESULT)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mlaas.runtimes.child MODULE")
    from mlaas.runtimes import child  # the module that recipes import, not this __main__ copy of it

    sys.exit(child.run(sys.argv[1]))
