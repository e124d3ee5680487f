"""Rows that are made up to compare a compiled model with its original, where the folder brings none or few.

They come from a fixed seed and cover what the model tells of its training data: the means and scales of scalers, the categories
of encoders, the thresholds of trees. Which rows they are is said in the model's status.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.predictor import Signature

ROWS = 192
_SEED = 20


def made_up(model: Any, signature: Signature) -> list[NDArray[Any]]:
    """Arrays of the signature's inputs with ROWS rows each."""
    random = np.random.default_rng(_SEED)
    if len(signature.inputs) == 1 and signature.inputs[0].datatype != "BYTES":
        width = signature.inputs[0].shape[1]
        return [numbers(random, width if width > 0 else 1, *_scales(model, width)).astype(np.float64)]
    return []


def numbers(
    random: np.random.Generator, width: int, mean: NDArray[Any], scale: NDArray[Any], rows: int = ROWS
) -> NDArray[Any]:
    """Normal rows around the mean, uniform ones in [0, 1], some ten times as far out, and one of zeros."""
    third = rows // 3
    normal = mean + scale * random.normal(size=(rows - 2 * third - 1, width))
    uniform = random.uniform(size=(third, width))
    far = mean + 10 * scale * random.normal(size=(third, width))
    return np.concatenate([normal, uniform, far, np.zeros((1, width))])


def _scales(model: Any, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and scale of the columns as the first scaler has learnt them; 0 and 1 without one."""
    for _, step in getattr(model, "steps", ())[:1]:
        mean, scale = getattr(step, "mean_", None), getattr(step, "scale_", None)
        if isinstance(mean, np.ndarray) and isinstance(scale, np.ndarray) and mean.shape == scale.shape == (width,):
            return mean, scale
    return np.zeros(width), np.ones(width)
