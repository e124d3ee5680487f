"""How good answers are. scikit-learn's definitions of every metric (its user guide, "Metrics and scoring")."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mlaas.runtimes.tabular.learner import Answer, Plan, Sample
from mlaas.runtimes.tabular.spec import DEFAULT_METRICS
from mlaas.runtimes.tabular.table import Array


def evaluate(plan: Plan, sample: Sample, answer: Answer, wanted: list[str] | None = None) -> dict[str, Any]:
    """Metric -> value; what cannot be computed for these rows (one class only, no probabilities) is left out."""
    names = wanted or list(plan.params.metrics or _default(plan, sample))
    measures = _MEASURES[plan.problem]
    found = {}
    for name in names:
        value = measures[name](plan, sample, answer)
        if value is not None:
            found[name] = value
    return found


def _default(plan: Plan, sample: Sample) -> tuple[str, ...]:
    if plan.problem == "outliers" and sample.y is not None:
        return ("share", "precision", "recall", "f1", "roc_auc", "average_precision")
    if plan.problem == "clustering" and sample.y is not None:
        return ("silhouette", "adjusted_rand")
    return DEFAULT_METRICS[plan.problem]


Measure = Callable[[Plan, Sample, Answer], Any]


def _labels(plan: Plan) -> list[int]:
    assert plan.classes is not None
    return list(range(len(plan.classes.names)))


def _classified(name: str, **options: Any) -> Measure:
    def measure(plan: Plan, sample: Sample, answer: Answer) -> float:
        import sklearn.metrics as metrics

        return float(getattr(metrics, name)(sample.y, answer.values, sample_weight=sample.weight, **options))

    return measure


def _averaged(name: str, average: str) -> Measure:
    def measure(plan: Plan, sample: Sample, answer: Answer) -> float:
        import sklearn.metrics as metrics

        options = {"average": average, "labels": _labels(plan), "zero_division": 0.0, "sample_weight": sample.weight}
        return float(getattr(metrics, name)(sample.y, answer.values, **options))

    return measure


def _confusion(plan: Plan, sample: Sample, answer: Answer) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix

    assert plan.classes is not None
    matrix = confusion_matrix(sample.y, answer.values, labels=_labels(plan))
    return {"labels": plan.classes.names, "matrix": matrix.tolist()}


def _ranked(name: str) -> Measure:
    """ROC AUC or average precision; over more than two classes the mean over one class against the rest."""

    def measure(plan: Plan, sample: Sample, answer: Answer) -> float | None:
        import sklearn.metrics as metrics

        scores = answer.probabilities if answer.probabilities is not None else answer.scores
        if scores is None or sample.y is None or len(np.unique(sample.y)) < len(_labels(plan)):
            return None
        truth: Array = sample.y
        if len(_labels(plan)) == 2:
            scores = scores if scores.ndim == 1 else scores[:, 1]
        elif scores.shape != (len(truth), len(_labels(plan))):
            return None
        else:
            truth = np.eye(len(_labels(plan)))[truth]
        return float(getattr(metrics, name)(truth, scores, average="macro", sample_weight=sample.weight))

    return measure


def _log_loss(plan: Plan, sample: Sample, answer: Answer) -> float | None:
    from sklearn.metrics import log_loss

    if answer.probabilities is None:
        return None
    given = answer.probabilities.astype(np.float64)
    given = given / given.sum(axis=1, keepdims=True)
    return float(log_loss(sample.y, given, labels=_labels(plan), sample_weight=sample.weight))


def _brier(plan: Plan, sample: Sample, answer: Answer) -> float | None:
    """Mean squared distance of the probabilities from the truth; of the second class when there are two."""
    if answer.probabilities is None or sample.y is None:
        return None
    truth = np.eye(len(_labels(plan)))[sample.y]
    distance = ((answer.probabilities - truth) ** 2).sum(axis=1) / (2 if len(_labels(plan)) == 2 else 1)
    return float(np.average(distance, weights=sample.weight))


def _regressed(name: str) -> Measure:
    def measure(plan: Plan, sample: Sample, answer: Answer) -> float | None:
        import sklearn.metrics as metrics

        if name in ("r2_score", "explained_variance_score") and len(answer.values) < 2:
            return None
        return float(getattr(metrics, name)(sample.y, answer.values, sample_weight=sample.weight))

    return measure


def _clustered(name: str) -> Measure:
    def measure(plan: Plan, sample: Sample, answer: Answer) -> float | None:
        import sklearn.metrics as metrics

        found = len(np.unique(answer.values))
        if not plan_is_numbers(plan) or not 2 <= found < len(answer.values):
            return None
        options = (
            {"sample_size": 5000, "random_state": 0} if name == "silhouette_score" and len(sample.x) > 5000 else {}
        )
        return float(getattr(metrics, name)(sample.x, answer.values, **options))

    return measure


def plan_is_numbers(plan: Plan) -> bool:
    return all(column.number for column in plan.columns)


def _rand(plan: Plan, sample: Sample, answer: Answer) -> float | None:
    from sklearn.metrics import adjusted_rand_score

    return None if sample.y is None else float(adjusted_rand_score(sample.y, answer.values))


def _unusual(name: str) -> Measure:
    """Against a column that says which rows are outliers."""

    def measure(plan: Plan, sample: Sample, answer: Answer) -> float | None:
        import sklearn.metrics as metrics

        if sample.y is None or len(np.unique(sample.y)) < 2:
            return None
        if name in ("roc_auc_score", "average_precision_score"):
            assert answer.scores is not None
            return float(getattr(metrics, name)(sample.y, -answer.scores))
        return float(getattr(metrics, name)(sample.y, (answer.values == -1).astype(int), zero_division=0.0))

    return measure


def _share(plan: Plan, sample: Sample, answer: Answer) -> float:
    """The share of rows that are said to be outliers."""
    return float(np.mean(answer.values == -1))


def _elsewhere(plan: Plan, sample: Sample, answer: Answer) -> None:
    """Of a decomposition: the recipe knows it from the fitted estimator."""


_MEASURES: dict[str, dict[str, Measure]] = {
    "classification": {
        "accuracy": _classified("accuracy_score"),
        "balanced_accuracy": _classified("balanced_accuracy_score"),
        "precision_macro": _averaged("precision_score", "macro"),
        "recall_macro": _averaged("recall_score", "macro"),
        "f1_macro": _averaged("f1_score", "macro"),
        "f1_weighted": _averaged("f1_score", "weighted"),
        "roc_auc": _ranked("roc_auc_score"),
        "average_precision": _ranked("average_precision_score"),
        "log_loss": _log_loss,
        "brier": _brier,
        "matthews": _classified("matthews_corrcoef"),
        "confusion": _confusion,
    },
    "regression": {
        "mae": _regressed("mean_absolute_error"),
        "rmse": _regressed("root_mean_squared_error"),
        "r2": _regressed("r2_score"),
        "mape": _regressed("mean_absolute_percentage_error"),
        "median_absolute_error": _regressed("median_absolute_error"),
        "explained_variance": _regressed("explained_variance_score"),
    },
    "clustering": {
        "silhouette": _clustered("silhouette_score"),
        "calinski_harabasz": _clustered("calinski_harabasz_score"),
        "davies_bouldin": _clustered("davies_bouldin_score"),
        "adjusted_rand": _rand,
    },
    "outliers": {
        "share": _share,
        "precision": _unusual("precision_score"),
        "recall": _unusual("recall_score"),
        "f1": _unusual("f1_score"),
        "roc_auc": _unusual("roc_auc_score"),
        "average_precision": _unusual("average_precision_score"),
    },
    "decomposition": {"explained_variance_ratio": _elsewhere, "reconstruction_rmse": _elsewhere},
}
