"""From windows of a metric to what a detector looks at, and from its answer to 1 (an anomaly) or 0. Only NumPy is needed.

A service runs this class before and after its predictor; the training data are made with it too, so that both see the same.
"""

import numpy as np

WINDOW = 30
"""Values of one window: half an hour at one value a minute."""

FEATURES = ("level", "spread", "lowest", "highest", "last", "slope", "roughness", "largest_step", "repeats")


class Transformer:
    """In: rows of `WINDOW` values of the metric, oldest first. Out: 1 for each row that is an anomaly, else 0."""

    def preprocess(self, inputs):
        """The features of each window, as the predictor's input. Raises ValueError for rows of another length."""
        windows = np.asarray(next(iter(inputs.values())), dtype=np.float64)
        return {"input-0": features(np.atleast_2d(windows))}

    def postprocess(self, outputs):
        """A detector says -1 of an outlier and 1 of an inlier."""
        return {"predict": (np.asarray(outputs["predict"]) < 0).astype(np.int64)}


def features(windows):
    """[rows, WINDOW] -> [rows, 9]: level (median), spread (interquartile range), and, relative to the level, the lowest, highest
    and last value, the slope of a straight line (change over the window), the mean and the largest size of a step; and the
    share of steps that are exactly 0 (a sensor that hangs)."""
    if windows.ndim != 2 or windows.shape[1] != WINDOW:
        raise ValueError(f"a window has {WINDOW} values, not {windows.shape[-1]}")
    level = np.median(windows, axis=1)
    low, high = np.percentile(windows, [25, 75], axis=1)
    centred = np.arange(WINDOW) - (WINDOW - 1) / 2
    slope = windows @ centred / (centred @ centred) * WINDOW
    steps = np.abs(np.diff(windows, axis=1))
    return np.column_stack([
        level, high - low, windows.min(axis=1) - level, windows.max(axis=1) - level, windows[:, -1] - level, slope,
        steps.mean(axis=1), steps.max(axis=1), (steps == 0).mean(axis=1),
    ])  # fmt: skip
