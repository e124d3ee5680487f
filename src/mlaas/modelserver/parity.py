"""Does a compiled model answer as its original does? Decided on sample rows, at once and one by one.

Labels, whole numbers and texts must be equal; numbers may differ by `ABSOLUTE + RELATIVE * |original|` of their datatype, which
is what another order of additions costs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Error
from mlaas.modelserver.formats.base import Original, Uncompiled

TOLERANCE: dict[str, tuple[float, float]] = {"FP64": (1e-9, 1e-9), "FP32": (1e-6, 1e-5), "FP16": (1e-3, 1e-3)}
"""Datatype -> (absolute, relative)."""
_SINGLES = 24

Answer = Callable[[list[NDArray[Any]], list[str]], list[NDArray[Any]]]


def compare(
    original: Original,
    compiled: Answer,
    rows: list[NDArray[Any]],
    given: int = 0,
    tolerance: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """How well they agree: `{rows, source, max_absolute, max_relative, labels_agree, tolerance}`. The first `given` rows are
    the input example's; `tolerance` is TOLERANCE where it is not given. Raises Uncompiled saying in which row and by how much
    they differ when that is too much."""
    limits = TOLERANCE if tolerance is None else tolerance
    count = len(rows[0]) if rows else 0
    if not count:
        raise Uncompiled("there are no rows to compare it on: add an input_example.json")
    names = [spec.name for spec in original.signature.outputs]
    try:
        wanted = original.predict(rows, names)
    except Error as error:
        raise Uncompiled(f"the original refuses the sample rows: {error.message}") from None
    absolute = relative = 0.0
    singles = np.unique(np.linspace(0, count - 1, min(_SINGLES, count)).astype(int))
    pieces = [np.arange(count), *(singles[at : at + 1] for at in range(len(singles)))]
    for piece in pieces:
        found = compiled([array[piece] for array in rows], names)
        for name, mine, theirs in zip(names, found, [array[piece] for array in wanted], strict=True):
            here = _differences(original, name, mine, theirs, rows, piece, limits)
            absolute, relative = max(absolute, here[0]), max(relative, here[1])
    made = f"{count - given} made up" if count > given else ""
    example = f"{given} of the input example" if given else ""
    return {
        "rows": count,
        "source": " and ".join(part for part in (example, made) if part),
        "max_absolute": absolute,
        "max_relative": relative,
        "labels_agree": True,
        "tolerance": {
            spec.name: list(limits[spec.datatype]) for spec in original.signature.outputs if spec.datatype in limits
        },
    }


def _differences(
    original: Original,
    name: str,
    mine: NDArray[Any],
    theirs: NDArray[Any],
    rows: list[NDArray[Any]],
    piece: NDArray[Any],
    limits: Mapping[str, tuple[float, float]],
) -> tuple[float, float]:
    spec = next(spec for spec in original.signature.outputs if spec.name == name)
    if mine.shape != theirs.shape:
        raise Uncompiled(f"the output '{name}' has the shape {list(mine.shape)} instead of {list(theirs.shape)}")
    if spec.datatype not in limits:
        wrong = (mine != theirs).reshape(len(mine), -1).any(axis=1)
        if wrong.any():
            raise Uncompiled(_message(name, wrong, mine, theirs, rows, piece))
        return 0.0, 0.0
    limit, rate = limits[spec.datatype]
    mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(mine - theirs)
    difference[(mine == theirs) | (np.isnan(mine) & np.isnan(theirs))] = 0.0
    difference[np.isnan(difference)] = np.inf
    wrong = (difference > limit + rate * np.abs(theirs)).reshape(len(mine), -1).any(axis=1)
    if wrong.any():
        raise Uncompiled(_message(name, wrong, mine, theirs, rows, piece))
    size = np.abs(theirs)
    return float(difference.max(initial=0.0)), float((difference / np.where(size > limit, size, 1)).max(initial=0.0))


def _message(
    name: str,
    wrong: NDArray[Any],
    mine: NDArray[Any],
    theirs: NDArray[Any],
    rows: list[NDArray[Any]],
    piece: NDArray[Any],
) -> str:
    at = int(np.flatnonzero(wrong)[0])
    row = ", ".join(str(array[piece[at]].tolist()) for array in rows)[:300]
    return (
        f"the output '{name}' differs in {int(wrong.sum())} of {len(mine)} rows, e.g. compiled "
        f"{mine[at].tolist()!s:.200} against {theirs[at].tolist()!s:.200} for the row {row}"
    )
