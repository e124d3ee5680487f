"""Small tables of each kind, and the recipe run in place."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlaas.runtimes.taskfile import Input, TaskFile


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def numbers(count: int = 300, seed: int = 0) -> list[list[Any]]:
    """Rows of a, b, c, d, kind ("background" or "signal", told apart by a and b) and energy (a smooth function)."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4)).round(4)
    signal = x[:, 0] + 0.5 * x[:, 1] ** 2 + 0.2 * random.normal(size=count) > 0.3
    energy = (2 * x[:, 0] - x[:, 1] + 0.1 * random.normal(size=count) + 10).round(5)
    return [
        [*row.tolist(), ["background", "signal"][int(is_signal)], float(value)]
        for row, is_signal, value in zip(x, signal, energy, strict=True)
    ]


NUMBERS = ("a", "b", "c", "d", "kind", "energy")
MIXED = ("energy", "charge", "detector", "run", "note", "weight", "good")


def mixed(count: int = 400, seed: int = 0) -> list[list[Any]]:
    """Rows of numbers with gaps, categories with gaps, whole numbers, words, weights, and whether the row is good."""
    random = np.random.default_rng(seed)
    words = ("clean", "noisy", "late", "early", "pedestal", "saturated")
    rows = []
    for i in range(count):
        detector = str(random.choice(["barrel", "endcap", "forward"]))
        energy = round(float(random.gamma(2, 20)), 2)
        note = " ".join(str(word) for word in random.choice(words, 4))
        good = int((energy > 30) + (detector == "barrel") + ("clean" in note) + random.normal(0, 0.3) > 1)
        rows.append([
            "" if i % 11 == 3 else energy, round(float(random.normal(1, 0.2)), 4), "" if i % 17 == 5 else detector,
            int(random.integers(1, 4)), note, round(float(random.random()) + 0.1, 3), good,
        ])  # fmt: skip
    return rows


Fit = Callable[..., dict[str, Any]]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """`fit(data, estimator, ...)`: the result of the recipe, run in a working folder of its own (`cwd`, here by default)."""

    def run(data: Path, estimator: str, cwd: str = "cwd", **params: Any) -> dict[str, Any]:
        from mlaas.runtimes.tabular import fit as recipe

        folder = tmp_path / cwd
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        dataset = {"path": str(data), "train_test_split": 0.2, **params.pop("dataset", {})}
        task = TaskFile(
            uid="u-1",
            name="fit",
            project="default",
            attempt=1,
            recipe="fit",
            params={"estimator": estimator, "dataset": dataset, **params},
            inputs={"dataset": Input(data.as_uri())},
            cache=str(tmp_path / "cache"),
        )
        return recipe.main(task)

    return run


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "numbers.csv", NUMBERS, numbers())


@pytest.fixture
def mixed_table(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "mixed.csv", MIXED, mixed())
