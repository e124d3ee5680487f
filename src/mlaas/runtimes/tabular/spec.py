"""Parameters of the recipe `fit`. Schema only: what can be fitted is known from a table, no framework is imported here."""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from mlaas.runtimes.data.spec import DatasetSource, Strict, Target
from mlaas.runtimes.tabular.layers import KerasParameters

KERAS = "keras.Sequential"
Problem = Literal["classification", "regression", "clustering", "outliers", "decomposition"]

METRICS: dict[str, tuple[str, ...]] = {
    "classification": (
        "accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_weighted", "roc_auc",
        "average_precision", "log_loss", "brier", "matthews", "confusion",
    ),
    "regression": ("mae", "rmse", "r2", "mape", "median_absolute_error", "explained_variance"),
    "clustering": ("silhouette", "calinski_harabasz", "davies_bouldin", "adjusted_rand"),
    "outliers": ("share", "precision", "recall", "f1", "roc_auc", "average_precision"),
    "decomposition": ("explained_variance_ratio", "reconstruction_rmse"),
}  # fmt: skip
"""Which metrics there are for a kind of problem."""

DEFAULT_METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "f1_macro", "roc_auc", "log_loss", "confusion"),
    "regression": ("mae", "rmse", "r2"),
    "clustering": ("silhouette",),
    "outliers": ("share",),
    "decomposition": METRICS["decomposition"],
}
ANSWERS_ONLY_ITS_ROWS = frozenset(
    {"DBSCAN", "HDBSCAN", "OPTICS", "AgglomerativeClustering", "SpectralClustering", "FeatureAgglomeration", "TSNE"}
)
"""Estimators that have no answer for rows they were not fitted on."""


@cache
def estimators() -> dict[str, dict[str, Any]]:
    """Import name -> `{problem, weights, missing, parameters: {name: default}}`; see `survey.py`."""
    table: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("estimators.json").read_text())
    return table


def library(estimator: str) -> str:
    """`sklearn`, `xgboost`, `lightgbm` or `keras`."""
    return estimator.partition(".")[0]


class Numeric(Strict):
    """Columns of numbers. `impute`: what stands for a missing value; without it missing values stay missing. An empty cell is
    missing, and one that holds a word of `missing`."""

    impute: Literal["mean", "median", "most_frequent", "zero"] | None = None
    scale: Literal["standard", "min-max", "robust"] | None = None
    missing: list[str] = Field(default_factory=lambda: ["NA", "N/A", "NaN", "nan", "null"])


class Categorical(Strict):
    """Columns of categories. `unknown`: what a category does that was not in the data set: refused, or no category at all
    (all zeros, or -1 with `ordinal`). `max_levels`: a column with more categories is refused."""

    impute: Literal["most_frequent", "missing"] | None = None
    encode: Literal["one-hot", "ordinal"] = "one-hot"
    unknown: Literal["error", "ignore"] = "error"
    max_levels: int = Field(1000, ge=2, le=100_000)


class Text(Strict):
    """Columns of free text, as tf-idf vectors of their words."""

    max_features: int = Field(20_000, ge=1, le=10_000_000)
    ngrams: int = Field(1, ge=1, le=5, description="Words, and sequences of up to so many words.")
    min_df: int = Field(1, ge=1, description="A word counts from so many rows on.")
    sublinear_tf: bool = False


class Preprocessing(Strict):
    """What is done with the columns of each type before the estimator sees them. A column of numbers is numeric, any other
    one categorical, unless `columns` says something else. `passthrough` columns are numbers that nothing is done with."""

    numeric: Numeric = Field(default_factory=Numeric)
    categorical: Categorical = Field(default_factory=Categorical)
    text: Text = Field(default_factory=Text)
    columns: dict[str, Literal["numeric", "categorical", "text", "passthrough", "drop"]] = Field(default_factory=dict)


class CrossValidation(Strict):
    """The estimator is fitted `folds` times more, each time without a part of the training rows that it is then scored on."""

    folds: int = Field(5, ge=2, le=1000)


class EarlyStopping(Strict):
    """For boosters and Keras: `validation_split` of the training rows is kept aside; training stops when their loss did not
    get better by `min_delta` for `patience` rounds or epochs, and the best one is kept."""

    patience: int = Field(10, ge=1)
    min_delta: float = Field(0.0, ge=0)
    validation_split: float = Field(0.1, gt=0, lt=1)


class FitSave(Target):
    register_as: str | None = Field(None, alias="register")


class FitParams(Strict):
    """Fit an estimator to the rows of a table.

    `estimator`: its import name. `target`: the column to predict; outlier detectors and clusterings are only scored with it.
    `features`: the columns to predict from, all others when left out. `metrics`: those usual for the problem when left out.
    """

    estimator: Annotated[
        str, Field(max_length=200), WithJsonSchema({"type": "string", "examples": ["xgboost.XGBClassifier"]})
    ]
    parameters: dict[str, Any] = Field(default_factory=dict)
    dataset: DatasetSource
    target: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    features: Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(min_length=1)] | None = None
    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    sample_weight: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    cross_validation: CrossValidation | None = None
    early_stopping: EarlyStopping | None = None
    metrics: list[str] | None = Field(None, max_length=50)
    seed: int = Field(42, ge=0, lt=2**32)
    model_save: FitSave | None = None


def problem_of(params: "FitParams") -> str:
    """The kind of problem; a network's follows from its loss."""
    if params.estimator == KERAS:
        return KerasParameters.model_validate(params.parameters).problem
    return str(estimators()[params.estimator]["problem"])
