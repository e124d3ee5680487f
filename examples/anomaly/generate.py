"""Generate a metric of a storage server, one value a minute, with anomalies; and the table of its windows that a detector
learns from.

    python examples/anomaly/generate.py --out windows.csv --series series.csv --days 14 --seed 1

The metric (throughput in MB/s) is 200, plus a daily wave of 60 and its first harmonic of 20, a fifth less at weekends, plus
noise that remembers (autoregressive, 0.8 a minute, standard deviation 6). About 2% of the minutes are in anomalies of four
kinds: spikes (a burst of some minutes, exponential), level shifts (half the throughput for up to an hour), a sensor that
hangs (one value repeated), and oscillations (a queue that fills and empties each few minutes).

A window of 30 values starts every five minutes; it is an anomaly (`anomaly` = 1) when at least three of its minutes are.
The features are those of `transformer.py`. The same arguments give the same files.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # run as a file: the imports below start at the root of the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.anomaly.transformer import FEATURES, WINDOW, features

DAY = 24 * 60
STRIDE = 5


def series(days: int = 14, seed: int = 1):
    """(values [minutes], 1 where a minute is in an anomaly [minutes])."""
    random = np.random.default_rng(seed)
    minutes = np.arange(days * DAY)
    phase = 2 * np.pi * minutes / DAY
    values = 200 - 60 * np.cos(phase) + 20 * np.sin(2 * phase)
    values *= np.where(minutes // DAY % 7 >= 5, 0.8, 1.0)
    noise = np.empty(len(minutes))
    state = 0.0
    for i, shock in enumerate(random.normal(0, 6 * np.sqrt(1 - 0.8**2), len(minutes))):
        state = 0.8 * state + shock
        noise[i] = state
    values += noise
    wrong = np.zeros(len(minutes), dtype=np.int64)
    kinds = (_spike, _shift, _hang, _oscillation)
    for i in range(max(4, days)):
        start = int(random.integers(WINDOW, len(minutes) - 2 * WINDOW))
        length = kinds[i % len(kinds)](values, start, random)
        wrong[start : start + length] = 1
    return np.maximum(values, 0).round(3), wrong


def _spike(values, start, random):
    length = int(random.integers(4, 12))
    values[start : start + length] += 150 * np.exp(-np.arange(length) / 4)
    return length


def _shift(values, start, random):
    length = int(random.integers(20, 60))
    values[start : start + length] *= 0.5
    return length


def _hang(values, start, random):
    length = int(random.integers(15, 40))
    values[start : start + length] = values[start]
    return length


def _oscillation(values, start, random):
    length = int(random.integers(20, 50))
    values[start : start + length] += 45 * np.sin(2 * np.pi * np.arange(length) / 5)
    return length


def windows(days: int = 14, seed: int = 1):
    """(windows [rows, WINDOW], 1 for each that is an anomaly [rows])."""
    values, wrong = series(days, seed)
    starts = np.arange(0, len(values) - WINDOW + 1, STRIDE)
    places = starts[:, None] + np.arange(WINDOW)
    return values[places], (wrong[places].sum(axis=1) >= 3).astype(np.int64)


def write(path: Path, days: int = 14, seed: int = 1) -> Path:
    """Write the table of windows: the features and `anomaly`; the path."""
    rows, wrong = windows(days, seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*FEATURES, "anomaly"])
        for row, is_wrong in zip(features(rows).tolist(), wrong.tolist(), strict=True):
            writer.writerow([*(round(value, 5) for value in row), is_wrong])
    return path


def write_series(path: Path, days: int = 14, seed: int = 1) -> Path:
    """Write the metric itself: `minute`, `value`, `anomaly`; the path."""
    values, wrong = series(days, seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["minute", "value", "anomaly"])
        writer.writerows(zip(range(len(values)), values.tolist(), wrong.tolist(), strict=True))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("windows.csv"))
    parser.add_argument("--series", type=Path, help="Write the metric itself too.")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(write(arguments.out, arguments.days, arguments.seed))
    if arguments.series:
        print(write_series(arguments.series, arguments.days, arguments.seed))
