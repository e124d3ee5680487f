"""Large JSON bodies: read by simdjson in one pass, numbers straight into buffers.

What this reader does not take (texts, mixed types, ragged rows, broken JSON) it leaves to the general one, which finds the words
for what is wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.tensors import DTYPES

LARGE = 1 << 14
"""Bytes from which it is quicker."""

_KEPT = 16 << 20  # a parser keeps memory in proportion to its largest document
_PIECE = 1 << 17  # bytes looked at together: what comes of them stays in the processor's cache
_KINDS = {"f": ("d", "<f8"), "i": ("i", "<i8"), "u": ("u", "<u8")}
_parser: Any = None


@contextmanager
def document(body: bytes | bytearray) -> Iterator[dict[str, Any] | None]:
    """The members of a JSON object: numbers and texts as they are, lists and objects as simdjson's views, valid inside the
    block only. None where the body is no JSON object."""
    global _parser
    import simdjson

    if _parser is None:
        _parser = simdjson.Parser()
    parser = _parser if len(body) <= _KEPT else simdjson.Parser()
    found: dict[str, Any] | None = None
    root: Any = None
    try:
        try:
            root = parser.parse(body)
            found = members(root)
        except (ValueError, RuntimeError, UnicodeDecodeError):
            found = None
        yield found
    finally:
        if found:
            found.clear()
        del root


def is_list(value: Any) -> bool:
    import simdjson

    return isinstance(value, simdjson.Array)


def members(value: Any) -> dict[str, Any] | None:
    """The members of an object; None for anything else, and for an object that has a key twice."""
    import simdjson

    if not isinstance(value, simdjson.Object):
        return None
    keys = list(value.keys())
    found = {key: value[key] for key in keys}
    return found if len(found) == len(keys) else None


def plain(value: Any) -> Any:
    """A view as plain lists and dicts."""
    import simdjson

    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def lists_in(body: bytes | bytearray) -> int:
    """How many lists a body opens (and brackets in its texts)."""
    data = np.frombuffer(body, dtype=np.uint8)
    return sum(int(np.count_nonzero(data[at : at + _PIECE] == 0x5B)) for at in range(0, len(data), _PIECE))


def lists_of(array: NDArray[Any]) -> int:
    """How many lists an array was written with."""
    return 1 + int(np.cumprod(array.shape[:-1]).sum())


def array(view: Any, datatype: str) -> NDArray[Any] | None:
    """The array of a view of nested lists of numbers; None where it is not one, or a value does not fit the datatype."""
    dtype = DTYPES[datatype]
    if dtype.kind not in _KINDS or datatype in ("FP16", "BF16"):
        return None
    kind, wide = _KINDS[dtype.kind]
    try:
        shape = _shape(view)
        found = np.frombuffer(view.as_buffer(of_type=kind), dtype=wide)
    except (TypeError, ValueError, RuntimeError):
        return None
    if shape is None or found.size != int(np.prod(shape)):
        return None
    if dtype != found.dtype:
        narrowed = _narrowed(found, dtype)
        if narrowed is None:
            return None
        found = narrowed
    return found.reshape(shape)


def _shape(view: Any) -> tuple[int, ...] | None:
    """Of nested lists that are as long as each other on each level. The innermost ones are looked at by their lengths only:
    whether one of them holds a further list is seen by comparing `lists_in` with `lists_of`."""
    shape = [len(view)]
    level: list[Any] = [view]
    while len(shape) < 5:
        if not shape[-1] or not is_list(level[0][0]):
            break
        below = [item for one in level for item in one]
        if not all(map(is_list, below)):
            return None
        lengths = set(map(len, below))
        if len(lengths) != 1:
            return None
        shape.append(lengths.pop())
        level = below
    return tuple(shape)


def _narrowed(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = values.astype(dtype)
        return found if np.isfinite(found).all() else None
    limits = np.iinfo(dtype)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        return None
    return values.astype(dtype)
