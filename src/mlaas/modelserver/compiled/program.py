"""A compiled model as data: steps that prepare a matrix, and a head that answers from it.

`compiled.json` holds `{"steps": [{"op": ...}], "head": {"op": ...}}`; where a value is an array, its name in `arrays.npz` stands
there. Steps and heads do what the original does with the same NumPy operations, so that the answers are the same numbers.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import heads, steps
from mlaas.modelserver.compiled.heads import Head
from mlaas.modelserver.compiled.steps import Step

Inputs = list[NDArray[Any]]
Answer = Callable[[Inputs, list[str]], list[NDArray[Any]]]


def build(document: Mapping[str, Any], folder: Path) -> Answer:
    """The function of arrays that the document describes; `folder` holds `arrays.npz` and other files that it names."""
    arrays = _arrays(folder)
    prepare = steps.chain(document["steps"], arrays)
    head = heads.build(document["head"], arrays, folder)
    missing = document["missing"]
    if missing is True:  # the model takes NaN for a missing value
        return _plain(prepare, head)
    if missing:
        return _finite_but(prepare, head, missing)
    return _finite(prepare, head)


def _plain(prepare: Step | None, head: Head) -> Answer:
    def answer(inputs: Inputs, wanted: list[str]) -> list[NDArray[Any]]:
        matrix = inputs[0] if len(inputs) == 1 else inputs
        return head(matrix if prepare is None else prepare(matrix), wanted)

    return answer


def _finite(prepare: Step | None, head: Head) -> Answer:
    """Refuses what is not finite. The sum of squares is finite only where all values are, and quicker to have than a look at
    each; where it is not, large values may have made it so."""
    isfinite, vdot = math.isfinite, np.vdot

    def answer(inputs: Inputs, wanted: list[str]) -> list[NDArray[Any]]:
        for array in inputs:
            if array.dtype.kind == "f" and not isfinite(vdot(array, array)) and not np.isfinite(array).all():
                _refuse(array)
        matrix = inputs[0] if len(inputs) == 1 else inputs
        return head(matrix if prepare is None else prepare(matrix), wanted)

    return answer


def _finite_but(prepare: Step | None, head: Head, missing: list[int]) -> Answer:
    """As `_finite`, but columns at these places may have NaN. Infinite values are refused in all."""

    def answer(inputs: Inputs, wanted: list[str]) -> list[NDArray[Any]]:
        for place, array in enumerate(inputs):
            if array.dtype.kind != "f" or np.isfinite(array).all():
                continue
            absent = np.isnan(array)
            if len(inputs) == 1:
                absent[:, missing] = False
            elif place in missing:
                absent[...] = False
            bad = absent | np.isinf(array)
            if bad.any():
                _refuse(np.where(bad, np.nan, 0.0))
        matrix = inputs[0] if len(inputs) == 1 else inputs
        return head(matrix if prepare is None else prepare(matrix), wanted)

    return answer


def _refuse(array: NDArray[Any]) -> None:
    row = int(np.argwhere(~np.isfinite(array))[0][0])
    raise Invalid(
        f"Row {row} has a value that is no number (NaN) or infinite; the model was not trained with such.",
        field="inputs",
    )


def _arrays(folder: Path) -> dict[str, NDArray[Any]]:
    path = folder / "arrays.npz"
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
