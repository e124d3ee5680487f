"""What every estimator offers, whatever library it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Error, Invalid
from mlaas.runtimes.tabular.spec import FitParams
from mlaas.runtimes.tabular.table import Array, Column
from mlaas.runtimes.tabular.target import Classes

Watch = Callable[[int, int, dict[str, float]], None]
"""Told after each round or epoch: `(done, of, metrics)`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fitted: the task's parameters, the kind of problem, the columns, the classes of a classification."""

    params: FitParams
    problem: str
    columns: list[Column]
    classes: Classes | None
    cores: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows: the matrix of features; codes of classes, or numbers, or None; the rows' weights or None."""

    x: Array
    y: Array | None = None
    weight: Array | None = None

    def take(self, rows: Array) -> "Sample":
        return Sample(
            self.x[rows],
            None if self.y is None else self.y[rows],
            None if self.weight is None else self.weight[rows],
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What an estimator says of rows: `values` are codes of classes, numbers, clusters, or 1 for an inlier and -1 for an
    outlier; components [rows, n] of a decomposition. `probabilities` [rows, classes]. `scores`: of an outlier detector, lower
    is more unusual; of a classifier without probabilities, its decision function."""

    values: Array
    probabilities: Array | None = None
    scores: Array | None = None


@dataclass(slots=True)
class Saved:
    """What `save` wrote: the file and its format, the part of it that prepares columns where that is a file of its own, and
    the types that skops needs to be told to trust."""

    file: str
    format: str
    preprocessing: str | None = None
    trusted: list[str] = field(default_factory=list)


class Learner(ABC):
    """One estimator and the preparation of its columns. `fit` once, then the rest."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.history: dict[str, list[float]] = {}

    @abstractmethod
    def fit(self, train: Sample, validation: Sample | None, test: Sample | None, watch: Watch) -> None:
        """Learn from `train`; `validation` says when to stop early, `test` is only measured for the history."""

    @abstractmethod
    def answer(self, x: Array) -> Answer: ...

    @abstractmethod
    def save(self, folder: Path) -> Saved:
        """Write the fitted estimator in a format that runs no code when it is read."""

    @abstractmethod
    def onnx(self) -> Any:
        """The whole of it as `onnx.ModelProto`, its inputs and outputs in the order of the signature, yet under names of the
        converter. Raises what a converter raises for what it does not know."""

    @property
    def facts(self) -> dict[str, Any]:
        """What else is worth saying of the training."""
        return {}


def refused(error: Exception, plan: Plan) -> Error:
    """What a library says against parameters or data, as an error of the tree."""
    text = " ".join(str(error).split())
    short = plan.params.estimator.rpartition(".")[2]
    for name in plan.params.parameters:
        if f"'{name}' parameter" in text or text.startswith(f"{name} ") or f"parameter {name} " in text:
            return Invalid(text[:500], field=f"parameters.{name}", hint=f"See the documentation of {short}.")
    hint = "Check the parameters, and whether the estimator fits the data."
    if "sparse" in text.lower():
        hint = "Texts become sparse vectors: use an estimator that takes them, such as LogisticRegression or LinearSVC."
    if "negative" in text.lower():
        hint = "Scale the columns into [0, 1]: preprocessing: {numeric: {scale: min-max}}."
    return Invalid(f"{short} cannot be fitted: {text[:500]}", field="estimator", hint=hint)
