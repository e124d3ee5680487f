"""Ensembles of decision trees: ONNX Runtime finds each tree's leaf, NumPy adds up in the order in which the original does.

The graph is one TreeEnsemble (ai.onnx.ml 5) in float64 with a target for each tree, so a float32 row meets the very thresholds
of the original, and ties between classes stay ties. What a tree gives is its leaf's value, or the number of the leaf where leaves
hold several values.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.compiled.session import open_session

GRAPH = "trees.onnx"
_CHUNK = 2048  # rows at once: the leaves of all trees are held for so many


def scores(
    document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], folder: Path
) -> Callable[[Any], NDArray[Any]]:
    """From rows to `[rows, k]` sums.

    `values` (optional): [leaves, k], what each leaf holds. `groups`: k, where the trees stand for k scores in turn. `base`: what
    the sums start from [k]. `single`: the original adds in float32. `float32`: it takes its rows as float32.
    """
    session = open_session(folder / GRAPH, optimise=False)
    run = session.run
    groups = document["groups"]
    dtype = np.float32 if document["single"] else np.float64
    base = arrays[document["base"]].astype(dtype) if "base" in document else None
    values = arrays[document["values"]] if "values" in document else None
    narrow = document["float32"]
    add = np.add.reduce
    row = None if values is None else _Row(session, values)

    def some(matrix: NDArray[Any]) -> NDArray[Any]:
        if narrow:
            matrix = matrix.astype(np.float32, copy=False)
        if row is not None and len(matrix) == 1:
            sums = row(matrix)
            return sums if base is None else sums + base
        (leaves,) = run(None, {"x": matrix.astype(np.float64, copy=False)})
        if values is not None:
            answer: NDArray[Any] = add(values.take(leaves.astype(np.intp), axis=0), 1)
            return answer if base is None else answer + base
        return _in_order(leaves.astype(dtype, copy=False), groups, base)

    def all_rows(matrix: NDArray[Any]) -> NDArray[Any]:
        if len(matrix) <= _CHUNK:
            return some(matrix)
        return np.concatenate([some(matrix[at : at + _CHUNK]) for at in range(0, len(matrix), _CHUNK)])

    return all_rows


class _Row:
    """The sums of one row of trees whose leaves hold several values. All arrays, also those that ONNX Runtime reads and writes,
    are made once, which is half of what a row costs; so it takes one row at a time, whichever thread brings it."""

    def __init__(self, session: Any, values: NDArray[Any]) -> None:
        (given,), (made,) = session.get_inputs(), session.get_outputs()
        trees = int(made.shape[1])
        self._lock = Lock()
        self._values = np.ascontiguousarray(values.T)
        self._matrix = np.zeros((1, int(given.shape[1])))
        self._leaves = np.zeros((1, trees))
        self._places = np.zeros((1, trees), dtype=np.intp)
        self._sums = np.zeros((len(self._values), 1, trees), dtype=values.dtype)
        self._last = self._sums[:, 0, -1]
        self._run = session.run_with_iobinding
        self._bound = session.io_binding()
        self._bound.bind_input(given.name, "cpu", 0, np.float64, self._matrix.shape, self._matrix.ctypes.data)
        self._bound.bind_output(made.name, "cpu", 0, np.float64, self._leaves.shape, self._leaves.ctypes.data)

    def __call__(self, matrix: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            self._matrix[...] = matrix
            self._run(self._bound)
            self._places[...] = self._leaves
            self._values.take(self._places, 1, self._sums, "clip")
            np.add.accumulate(self._sums, 2, None, self._sums)  # in the order of the trees (`sum` would pair them)
            return self._last[np.newaxis].copy()


def _in_order(leaves: NDArray[Any], groups: int, base: NDArray[Any] | None) -> NDArray[Any]:
    """Sums of every `groups`-th column, one addition after the other (`sum` would pair them)."""
    turns = leaves.reshape(len(leaves), -1, groups)
    if base is not None:
        turns[:, 0, :] += base
    return np.add.accumulate(turns, axis=1, out=turns)[:, -1, :]
