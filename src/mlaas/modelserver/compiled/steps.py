"""Steps of a compiled model: each takes a matrix of rows (or, the first one, a list of columns) and gives a matrix.

- scale: `(x - mean) / scale * factor + shift`, clipped to `clip` (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)
- select: some of the columns (SelectKBest, VarianceThreshold)
- matmul: `(x - mean) @ weights + shift` (PCA, TruncatedSVD, random projections)
- impute: a value for NaN (SimpleImputer)
- lookup: a category's row of a table (OneHotEncoder, OrdinalEncoder, TargetEncoder)
- normalise: rows of norm 1 (Normalizer)
- binarize: 1 above a threshold (Binarizer)
- powers: products of powers of the columns (PolynomialFeatures)
- parts: several of these on columns of their own, side by side (ColumnTransformer, FeatureUnion)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid

Matrix = Any  # an array of rows, or a list of columns ([rows, 1] each)
Step = Callable[[Matrix], Any]
Arrays = Mapping[str, NDArray[Any]]


def chain(documents: Sequence[Mapping[str, Any]], arrays: Arrays) -> Step | None:
    """All steps one after the other; None when there is nothing to do."""
    built = [_OPS[document["op"]](document, arrays) for document in documents]
    if not built:
        return None
    if len(built) == 1:
        return built[0]

    def run(matrix: Matrix) -> Any:
        for step in built:
            matrix = step(matrix)
        return matrix

    return run


def _scale(document: Mapping[str, Any], arrays: Arrays) -> Step:
    mean, scale, factor, shift = (_named(document, name, arrays) for name in ("mean", "scale", "factor", "shift"))
    clip = document.get("clip")

    def run(matrix: Matrix) -> Any:
        matrix = matrix if mean is None else matrix - mean
        matrix = matrix if scale is None else matrix / scale
        matrix = matrix if factor is None else matrix * factor
        matrix = matrix if shift is None else matrix + shift
        return matrix if clip is None else np.clip(matrix, clip[0], clip[1])

    return run


def _select(document: Mapping[str, Any], arrays: Arrays) -> Step:
    chosen = arrays[document["columns"]]
    return lambda matrix: matrix[:, chosen]


def _matmul(document: Mapping[str, Any], arrays: Arrays) -> Step:
    mean, weights, shift = (_named(document, name, arrays) for name in ("mean", "weights", "shift"))

    def run(matrix: Matrix) -> Any:
        matrix = (matrix if mean is None else matrix - mean) @ weights
        return matrix if shift is None else matrix + shift

    return run


def _impute(document: Mapping[str, Any], arrays: Arrays) -> Step:
    values = arrays[document["values"]]
    kept = arrays[document["kept"]]
    indicators = arrays[document["indicators"]]

    def run(matrix: Matrix) -> Any:
        missing = np.isnan(matrix)
        filled = np.where(missing, values, matrix)[:, kept]
        return np.hstack([filled, missing[:, indicators]]) if len(indicators) else filled

    return run


def _lookup(document: Mapping[str, Any], arrays: Arrays) -> Step:
    """A row of the column's table for each category; its last row is for a category unseen at training, where the encoder
    takes such."""
    columns = []
    for column in document["columns"]:
        keys = [key.encode() if isinstance(key, str) else key for key in column["categories"]]
        columns.append(
            (
                {key: index for index, key in enumerate(keys)},
                arrays[column["table"]],
                len(keys) if column["unknown"] else None,
                column["name"],
            )
        )

    def run(matrix: Matrix) -> Any:
        parts = []
        for place, (index, table, unknown, name) in enumerate(columns):
            values = matrix[:, place].tolist()
            try:
                found = (
                    [index[value] for value in values] if unknown is None else [index.get(v, unknown) for v in values]
                )
            except KeyError:
                raise _unseen(values, index, name) from None
            parts.append(table[found])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    return run


def _unseen(values: Sequence[Any], index: Mapping[Any, int], name: str) -> Invalid:
    row, value = next((row, value) for row, value in enumerate(values) if value not in index)
    known = [key.decode() if isinstance(key, bytes) else str(key) for key in index]
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    shown = value.decode(errors="replace")[:100] if isinstance(value, bytes) else value
    return Invalid(
        f"Row {row} has the category {shown!r} in '{name}', which the model was not trained with.",
        field=name,
        hint=f"It knows {', '.join(known[:20])}{more}.",
    )


def _normalise(document: Mapping[str, Any], arrays: Arrays) -> Step:
    norm = document["norm"]

    def run(matrix: Matrix) -> Any:
        if norm == "l1":
            size = np.abs(matrix).sum(axis=1)
        elif norm == "l2":
            size = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
        else:
            size = np.abs(matrix).max(axis=1)
        size[size == 0] = 1.0
        return matrix / size[:, np.newaxis]

    return run


def _binarize(document: Mapping[str, Any], arrays: Arrays) -> Step:
    threshold = document["threshold"]
    return lambda matrix: (matrix > threshold).astype(matrix.dtype)


def _powers(document: Mapping[str, Any], arrays: Arrays) -> Step:
    powers = arrays[document["powers"]]
    factors = [np.repeat(np.arange(powers.shape[1]), row) for row in powers]

    def run(matrix: Matrix) -> Any:
        answer = np.empty((len(matrix), len(factors)), matrix.dtype)
        for place, columns in enumerate(factors):
            np.multiply.reduce(matrix[:, columns], axis=1, out=answer[:, place])
        return answer

    return run


def _parts(document: Mapping[str, Any], arrays: Arrays) -> Step:
    parts = [(part["columns"], chain(part["steps"], arrays)) for part in document["parts"]]

    def run(matrix: Matrix) -> Any:
        whole = isinstance(matrix, np.ndarray)
        answers = []
        for columns, step in parts:
            if columns is None:
                taken = matrix
            elif whole:
                taken = matrix[:, columns]
            elif len(columns) == 1:
                taken = matrix[columns[0]]
            else:
                taken = np.concatenate([matrix[index] for index in columns], axis=1)
            answers.append(taken if step is None else step(taken))
        return answers[0] if len(answers) == 1 else np.concatenate(answers, axis=1)

    return run


def _named(document: Mapping[str, Any], name: str, arrays: Arrays) -> NDArray[Any] | None:
    key = document.get(name)
    return None if key is None else arrays[key]


_OPS: dict[str, Callable[[Mapping[str, Any], Arrays], Step]] = {
    "scale": _scale,
    "select": _select,
    "matmul": _matmul,
    "impute": _impute,
    "lookup": _lookup,
    "normalise": _normalise,
    "binarize": _binarize,
    "powers": _powers,
    "parts": _parts,
}
