"""The order of rows in training: a pure function of seed and epoch, so a resumed run needs only its position in it."""

import numpy as np
from numpy.typing import NDArray

WINDOW = 50


def shuffled(lengths: NDArray[np.integer], size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Batches of `size` rows of like length, in random order.

    Rows are shuffled, sorted by length within windows of 50 batches, cut into batches, and the batches shuffled: every row
    once an epoch, random company, hardly any padding.
    """
    draw = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = draw.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), WINDOW * size):
        window = order[start : start + WINDOW * size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + size] for i in range(0, len(window), size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def by_length(lengths: NDArray[np.integer], size: int) -> list[NDArray[np.int64]]:
    """Batches for evaluation: all rows, the longest first (too little memory shows at once)."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + size] for i in range(0, len(order), size)]
