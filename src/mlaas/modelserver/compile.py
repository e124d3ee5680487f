"""`python -m mlaas.modelserver.compile`: opens a model with its own framework and writes its compiled form, if that agrees.

A process of its own without credentials: it reads an `Order` as JSON from its standard input and writes into the order's folder
either `compiled.json` and what that names, or `error.json`. `compiled.json` is

    {"compiler", "format", "kind": "program" | "onnx" | ... | "original", "reason": why it stays original,
     "signature", "parity", "versions": {package: version}, "warnings": [...], "cost": {"one", "row"}}
"""

import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlaas.kernel import landlock
from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver import parity
from mlaas.modelserver import signature as signatures
from mlaas.modelserver.compiled import read
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.base import INT8, AsyncOriginal, Freeform, Opened, Original, Uncompiled

COMPILER = 4
"""Raised whenever the same model would be compiled otherwise: what is cached by an older one is not used."""

ERROR = "error.json"
_NUMBERS = 1 << 18  # in the rows on which the time is taken


class Order(msgspec.Struct, kw_only=True):
    """What to compile, to where, and within which limits (bytes of private memory, seconds of processor time; 0: none). `read`
    and `write` are the paths that the process keeps; empty where the kernel cannot confine it."""

    source: str
    target: str
    format: str
    trusted: bool = False
    device: str = "cpu"
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    memory: int = 0
    seconds: int = 0
    read: list[str] = msgspec.field(default_factory=list)
    write: list[str] = msgspec.field(default_factory=list)


def main() -> int:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    _limit(order)
    try:
        document = compile_model(order)
    except Error as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return _failed(order, error)
    except MemoryError:
        return _failed(order, Invalid("The model needs more memory than its limit.", hint="Give it more `memory`."))
    except Exception as error:
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}".split("\n")[0][:500]
        return _failed(order, Invalid(f"The model cannot be opened: {text}", field="source"))
    (Path(order.target) / read.DOCUMENT).write_bytes(msgspec.json.encode(document))
    return 0


def compile_model(order: Order) -> dict[str, Any]:
    """Open, compile, compare: the document of the target folder. Raises Invalid for a model that cannot be opened."""
    target = Path(order.target)
    format = registry.named(order.format)
    opened = Opened(Path(order.source), order.trusted, order.device, order.options)
    original = registry.open_model(format, opened)
    document: dict[str, Any] = {
        "compiler": COMPILER,
        "format": format.name,
        "kind": "original",
        "signature": signatures.to_json(original.signature),
        "versions": registry.versions(format, opened.root),
        "warnings": list(getattr(original, "warnings", ())),
    }
    if isinstance(original, AsyncOriginal | Freeform):
        made: dict[str, Any] = {"reason": "a custom predictor runs as it is"}
    else:
        try:
            made = _compiled(original, opened.root, document, target)
        except Uncompiled as error:
            made = {"reason": str(error)}
            for left in target.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    if order.options.get(INT8):
        made.setdefault("int8", refused(made.get("reason", "")))
    return {**document, **made}


def refused(reason: str) -> dict[str, Any]:
    """What the status says of int8 where the model is no text encoder ("") or is not compiled."""
    return {"served": False, "reason": f"it is not compiled: {reason}" if reason else "it is no text encoder"}


def _compiled(original: Original, source: Path, document: dict[str, Any], target: Path) -> dict[str, Any]:
    made = original.compile(target)
    if made is None:
        raise Uncompiled("this format has no compiled form")
    agreed = original.agree({**document, **made}, target)
    if agreed is not None:
        return {**made, "parity": agreed}
    try:
        answer = read.answer_of({**document, **made}, target, source)
    except ModuleNotFoundError as error:
        raise Uncompiled(f"its Python environment has no {error.name} to compare it with") from error
    rows = original.sample() or []
    agreed = parity.compare(original, answer, rows, int(getattr(original, "given", 0)), original.tolerance)
    return {**made, "parity": agreed, "cost": _cost(answer, rows, [spec.name for spec in original.signature.outputs])}


def _cost(
    answer: Callable[[list[NDArray[Any]], list[str]], Any], rows: list[NDArray[Any]], names: list[str]
) -> dict[str, float]:
    """Seconds of one row and of each further one: the best of a few calls."""
    size = sum(int(np.prod(array.shape[1:])) for array in rows)
    count = max(2, min(256, _NUMBERS // max(size, 1)))
    many = [np.resize(array, (count, *array.shape[1:])) for array in rows]
    one = _best(lambda: answer([array[:1] for array in many], names))
    all_rows = _best(lambda: answer(many, names))
    return {"one": one, "row": max(all_rows - one, 0.0) / (count - 1)}


def _best(call: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def _limit(order: Order) -> None:
    if order.read:
        landlock.restrict(order.read, order.write, landlock.SCOPE_SIGNAL | landlock.SCOPE_ABSTRACT_UNIX_SOCKET)
        landlock.drop_capabilities()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if order.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (order.memory, order.memory))
    if order.seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (order.seconds, order.seconds + 5))


def _failed(order: Order, error: Error) -> int:
    (Path(order.target) / ERROR).write_bytes(msgspec.json.encode(error.summary()))
    return 3


if __name__ == "__main__":
    raise SystemExit(main())
