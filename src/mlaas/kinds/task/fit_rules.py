"""Which values of a `fit` go together: what the table of estimators says of an estimator, before anything is imported."""

from typing import Any

from pydantic import ValidationError

from mlaas.kernel.validation import invalid, nearest
from mlaas.kinds.task.refusal import refuse
from mlaas.runtimes.tabular.layers import KerasParameters
from mlaas.runtimes.tabular.spec import (
    ANSWERS_ONLY_ITS_ROWS,
    KERAS,
    METRICS,
    estimators,
    library,
    problem_of,
)

_ROUNDS = ("sklearn.ensemble.HistGradientBoosting", "sklearn.ensemble.GradientBoosting", "sklearn.neural_network.MLP",
           "sklearn.linear_model.SGD")  # fmt: skip


def check_fit(spec: Any) -> None:
    """Raise for the first thing that does not fit."""
    _estimator(spec.estimator)
    _parameters(spec)
    problem = problem_of(spec)
    _columns(spec, problem)
    _metrics(spec, problem)
    _training(spec)


def _estimator(name: str) -> None:
    known = [*estimators(), KERAS]
    if name in known:
        return
    short = name.rpartition(".")[2]
    if short in ANSWERS_ONLY_ITS_ROWS:
        raise refuse(
            "estimator", f"{short} has no answer for rows it was not fitted on; KMeans and GaussianMixture have"
        )
    by_short = {each.rpartition(".")[2].lower(): each for each in known}
    exact = by_short.get(short.lower())
    near = nearest(name, known)
    close = exact or near or by_short.get(nearest(short, list(by_short)) or "")
    meant = (
        f"; did you mean '{close}'?" if close else ": name one of scikit-learn, XGBoost, LightGBM, or keras.Sequential"
    )
    raise refuse("estimator", f"there is no estimator '{name[:100]}' here{meant}")


def _parameters(spec: Any) -> None:
    if spec.estimator == KERAS:
        try:
            KerasParameters.model_validate(spec.parameters)
        except ValidationError as error:
            found = invalid(error, KerasParameters, spec.parameters, "parameters")
            raise refuse(found.field or "parameters", found.errors[0]["message"]) from None
        return
    known = list(estimators()[spec.estimator]["parameters"])
    short = spec.estimator.rpartition(".")[2]
    for name in spec.parameters:
        if name not in known:
            close = next((each for each in known if each.lower() == name.lower()), None) or nearest(name, known)
            meant = f"; did you mean '{close}'?" if close else f"; it has {', '.join(known)}"
            raise refuse(f"parameters.{name[:80]}", f"{short} has no parameter '{name[:80]}'{meant}")


def _columns(spec: Any, problem: str) -> None:
    if problem in ("classification", "regression") and spec.target is None:
        raise refuse("target", f"is missing: {problem} needs the column to predict")
    if problem == "decomposition" and spec.target is not None:
        raise refuse("target", "a decomposition has none; name the columns to leave out in preprocessing.columns: drop")
    if spec.features is not None:
        for i, name in enumerate(spec.features):
            if name in spec.features[:i]:
                raise refuse(f"features.{i}", f"'{name[:80]}' is named twice")
            if name == spec.target:
                raise refuse(f"features.{i}", f"'{name[:80]}' is the target")
    if spec.sample_weight is not None:
        if spec.sample_weight == spec.target:
            raise refuse("sample_weight", "is the target")
        if spec.estimator != KERAS and not estimators()[spec.estimator]["weights"]:
            raise refuse("sample_weight", f"{spec.estimator.rpartition('.')[2]} cannot weigh rows")
    dataset = spec.dataset
    if dataset.format in ("vector_store", "text"):
        raise refuse("dataset.format", "an estimator is fitted to a table: csv, tsv, jsonl, json, parquet or arrow")
    if dataset.augment is not None:
        raise refuse("dataset.augment", "enlarges texts of text-classification; a table is taken as it is")
    if dataset.text_column is not None:
        raise refuse("dataset.text_column", "name the columns in features, and texts in preprocessing.columns: text")
    if dataset.label_column is not None:
        raise refuse("dataset.label_column", "the column to predict is named by target")
    split = dataset.train_test_split
    if split is not None and split >= 1 and split != int(split):
        raise refuse("dataset.train_test_split", f"{split} is neither a share below 1 nor a whole number of rows")


def _metrics(spec: Any, problem: str) -> None:
    known = METRICS[problem]
    for i, name in enumerate(spec.metrics or []):
        if name not in known:
            close = nearest(name, list(known))
            meant = f"did you mean '{close}'?" if close else f"there are {', '.join(known)}"
            raise refuse(f"metrics.{i}", f"{problem} has no metric '{name[:80]}'; {meant}")
    if spec.cross_validation is not None and problem not in ("classification", "regression"):
        raise refuse("cross_validation", f"scores predictions against a target; {problem} makes none")


def _training(spec: Any) -> None:
    if spec.early_stopping is None or library(spec.estimator) in ("xgboost", "lightgbm", "keras"):
        if spec.early_stopping is not None and "XGBRF" in spec.estimator:
            raise refuse("early_stopping", "a forest is grown in one round")
        return
    own = " Its own parameters are n_iter_no_change and tol." if spec.estimator.startswith(_ROUNDS) else ""
    raise refuse("early_stopping", f"is for XGBoost, LightGBM and Keras, not for {spec.estimator}.{own}")
