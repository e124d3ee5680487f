"""Rows that are made up to compare a compiled model with its original, where the folder brings none or few.

They come from a fixed seed and cover what the model tells of its training data: the means and scales of scalers, the categories
of encoders, the thresholds of trees. How many were made up is said in the model's status.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.formats.folder import to_array
from mlaas.modelserver.predictor import Signature
from mlaas.modelserver.tensors import DTYPES

ROWS = 192
_SEED = 20


class Survey:
    """What is known of the training data: per column its mean and scale, and the categories of those that have some."""

    def __init__(self, width: int) -> None:
        self.mean = np.zeros(width)
        self.scale = np.ones(width)
        self.categories: dict[int, Sequence[Any]] = {}

    def learn_splits(self, features: Sequence[int], splits: Sequence[float]) -> None:
        """From the thresholds of trees: they lie where the data lay."""
        columns, values = np.asarray(features), np.asarray(splits, np.float64)
        for column in range(len(self.mean)):
            here = values[(columns == column) & np.isfinite(values)]
            if len(here):
                self.mean[column] = float(np.median(here))
                spread = float(np.ptp(here))
                self.scale[column] = spread or abs(float(here[0])) or 1.0

    def rows(self, random: np.random.Generator, count: int = ROWS) -> NDArray[Any]:
        """Normal rows around the means, uniform ones in [0, 1], some ten times as far out, and one of zeros."""
        width = len(self.mean)
        third = count // 3
        near = self.mean + self.scale * random.normal(size=(count - 2 * third - 1, width))
        uniform = random.uniform(size=(third, width))
        far = self.mean + 10 * self.scale * random.normal(size=(third, width))
        return np.concatenate([near, uniform, far, np.zeros((1, width))])


def made_up(signature: Signature, survey: Survey) -> list[NDArray[Any]]:
    """Arrays of the signature's inputs with ROWS rows each: one matrix, or a column an input."""
    random = np.random.default_rng(_SEED)
    numbers = survey.rows(random)
    if len(signature.inputs) == 1 and signature.inputs[0].datatype != "BYTES":
        for column, known in survey.categories.items():
            numbers[:, column] = random.choice(np.asarray(known, dtype=np.float64), len(numbers))
        return [whole(numbers, signature.inputs[0].datatype)]
    arrays = []
    for column, spec in enumerate(signature.inputs):
        shape = (len(numbers), *spec.shape[1:])
        if column in survey.categories:
            known = survey.categories[column]
            chosen = [known[at] for at in random.integers(len(known), size=len(numbers))]
            arrays.append(to_array(chosen, spec).reshape(shape))
        elif spec.datatype == "BYTES":
            arrays.append(to_array([""] * len(numbers), spec).reshape(shape))
        else:
            arrays.append(whole(numbers[:, column], spec.datatype).reshape(shape))
    return arrays


def whole(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Numbers in a datatype: rounded, and within its range, where it holds whole ones."""
    dtype = DTYPES[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.ascontiguousarray(values > 0 if dtype.kind == "b" else values.astype(dtype))


def texts(words: Mapping[str, Any]) -> list[str]:
    """ROWS texts of words from a vocabulary, with some that are not in it, and an empty one."""
    random = np.random.default_rng(_SEED)
    known = sorted(words)
    made = []
    for length in random.integers(1, 30, size=ROWS - 1):
        chosen = [known[at] for at in random.integers(len(known), size=length)]
        made.append(" ".join(word.upper() if random.uniform() < 0.1 else word for word in [*chosen, "zzunseen"]))
    return [*made, ""]
