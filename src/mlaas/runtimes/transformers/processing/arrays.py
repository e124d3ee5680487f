"""Ragged sequences to rectangles, and numerically safe soft-maxes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray


def pad(
    sequences: Sequence[NDArray[np.generic]],
    value: int,
    dtype: DTypeLike = np.int64,
    multiple: int = 1,
    left: bool = False,
) -> NDArray[np.generic]:
    """(n sequences) -> (n, longest rounded up to `multiple`), filled with `value`."""
    longest = max((len(s) for s in sequences), default=0)
    width = max(multiple, -(-longest // multiple) * multiple)
    out = np.full((len(sequences), width), value, dtype=dtype)
    for row, sequence in zip(out, sequences, strict=True):
        if left:
            row[width - len(sequence) :] = sequence
        else:
            row[: len(sequence)] = sequence
    return out


def mask(lengths: NDArray[np.integer], width: int, left: bool = False) -> NDArray[np.int64]:
    """(n) lengths -> (n, width) of 1 where a token is and 0 where padding is."""
    places = np.arange(width)
    if left:
        places = places[::-1]
    return (places[None, :] < lengths[:, None]).astype(np.int64)


def softmax(logits: NDArray[np.floating], axis: int = -1) -> NDArray[np.float64]:
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=axis, keepdims=True)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=axis, keepdims=True))


def log_softmax(logits: NDArray[np.floating], axis: int = -1) -> NDArray[np.float64]:
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))
