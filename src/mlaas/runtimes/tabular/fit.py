"""Recipe `fit`: fit an estimator to a table, score it, and save it as a folder that a model server reads."""

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.commit import check_target, commit
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.report import Reporter
from mlaas.runtimes.tabular.spec import KERAS, EarlyStopping, FitParams, estimators, library, problem_of
from mlaas.runtimes.taskfile import OUTPUT, TaskFile

if TYPE_CHECKING:
    import pyarrow as pa

    from mlaas.runtimes.tabular.learner import Learner, Plan, Sample
    from mlaas.runtimes.tabular.table import Array

FIELD = "model_save"
DEFAULT_TEST = 0.1
_TESTS = ("test", "validation")


def main(task: TaskFile) -> dict[str, Any]:
    """The result of a fit: `{history?, evaluation, dataset, output, warnings}`, as `taskfile.py` says.

    `evaluation` is that of the test rows, with `cross_validation` (of the training rows) in it when the task asks for it;
    `history` has a value for each round or epoch of boosters and networks. Raises Invalid, Exists, Full.
    """
    done = check_target(task, FIELD)
    if done is not None:
        return {**_recorded(task), "output": done}
    params = FitParams.model_validate(task.params)
    cores = max(1, round(task.cores))
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ["KERAS_HOME"] = str(Path(".keras").absolute())  # else Keras writes into the home folder

    from mlaas.runtimes.tabular import folder
    from mlaas.runtimes.tabular.score import evaluate
    from mlaas.runtimes.tabular.stages import Stages

    with Reporter() as reporter, warnings.catch_warnings(record=True) as caught, _threads(cores):
        warnings.simplefilter("always")
        stages = Stages(reporter, params)
        stages.reached("read")
        said: list[str] = []
        plan, train, test = _rows(task, params, cores, said)
        stages.reached("cross-validate")
        validated = _cross_validated(plan, train, stages)
        stages.reached("fit")
        learner = _fitted(plan, train, test, stages)
        stages.reached("evaluate")
        answer = learner.answer(test.x)
        evaluation = {**evaluate(plan, test, answer), **_reconstruction(learner, test)}
        if validated:
            evaluation["cross_validation"] = validated
        said += _words(caught)
    record: dict[str, Any] = {
        **({"history": learner.history} if learner.history else {}),
        "evaluation": evaluation,
        "dataset": {"samples_train": len(train.x), "samples_test": len(test.x), "features": len(plan.columns)},
        "warnings": said,
    }
    parameters = params.model_dump(mode="json", by_alias=True, exclude={"dataset", "model_save"}, exclude_none=True)
    output = commit(task, FIELD, folder.save(learner, plan, test.x, {**record, "parameters": parameters}))
    return {**record, "output": output}


def _rows(task: TaskFile, params: FitParams, cores: int, said: list[str]) -> "tuple[Plan, Sample, Sample]":
    """What is fitted, the training rows and the test rows."""
    from mlaas.runtimes.data.read import load
    from mlaas.runtimes.tabular import table as tables
    from mlaas.runtimes.tabular import target
    from mlaas.runtimes.tabular.learner import Plan, Sample

    found = load(fetch(task, "dataset"), params.dataset, Path(task.cache or "cache"))
    problem = problem_of(params)
    missing = params.estimator != KERAS and bool(estimators()[params.estimator]["missing"])
    train_table, test_table = _parts(found, params, said)
    used = [train_table] if test_table is None else [train_table, test_table]
    features, used = tables.choose(used, params, missing)
    said += features.warnings
    classes = None
    ys: list[Any] = [None] * len(used)
    name = params.target
    if name is not None and problem == "classification":
        values = [target.class_values(each, name) for each in used]
        classes = target.classes(values[0], name)
        ys = [classes.codes(each, "The test set") for each in values]
    elif name is not None and problem == "regression":
        ys = [target.numbers(each, name) for each in used]
        target.not_constant(ys[0], name)
    elif name is not None and problem == "outliers":
        ys = [target.anomalies(each, name) for each in used]
    elif name is not None:
        values = [target.class_values(each, name) for each in used]
        groups = target.Classes(sorted(set().union(*(each.unique().to_pylist() for each in values))))
        ys = [groups.codes(each, "The test set") for each in values]
    weight = params.sample_weight
    samples = [
        Sample(features.rows(each), y, None if weight is None else target.weights(each, weight))
        for each, y in zip(used, ys, strict=True)
    ]
    plan = Plan(params, problem, features.columns, classes, cores)
    if len(samples) == 2:
        return plan, samples[0], samples[1]
    train_rows, test_rows = _split(plan, samples[0], said)
    return plan, samples[0].take(train_rows), samples[0].take(test_rows)


def _parts(found: "dict[str, pa.Table]", params: FitParams, said: list[str]) -> "tuple[pa.Table, pa.Table | None]":
    """The table to train on, and the one to test on where the data set has it and the task asks for no other."""
    held_out = next((name for name in _TESTS if name in found and len(found) > 1), None)
    train = found["train"] if "train" in found else found[next(name for name in found if name != held_out)]
    if held_out is not None and params.dataset.train_test_split is None:
        return train, found[held_out]
    if params.dataset.train_test_split is None:
        said.append("No test set was named: a tenth of the rows was set aside for it (train_test_split: 0.1).")
    return train, None


def _split(plan: "Plan", sample: "Sample", said: list[str]) -> "tuple[Array, Array]":
    import pyarrow as pa

    from mlaas.runtimes.data import split

    size = plan.params.dataset.train_test_split or DEFAULT_TEST
    labels = None if plan.classes is None or sample.y is None else pa.array(sample.y)
    train, test = split.rows(len(sample.x), size, seed=plan.params.seed, labels=labels)
    if plan.classes is not None and sample.y is not None:
        lost = sorted(set(range(len(plan.classes.names))) - set(np.unique(sample.y[train]).tolist()))
        if lost:
            name = plan.classes.names[lost[0]]
            raise Invalid(
                f"The class {name!r} has no row to train on: its only one is in the test set.",
                field="dataset.train_test_split",
                hint="Take a smaller test set, or add rows of this class.",
            )
        if len(np.unique(sample.y[test])) < len(plan.classes.names):
            count = len(plan.classes.names)
            said.append(f"The test set of {len(test)} rows does not have one of each of the {count} classes.")
    return train, test


def _new(plan: "Plan") -> "Learner":
    """An estimator that is not fitted yet."""
    kind = library(plan.params.estimator)
    if kind in ("xgboost", "lightgbm"):
        from mlaas.runtimes.tabular import boosters

        return boosters.XGBoost(plan) if kind == "xgboost" else boosters.LightGBM(plan)
    if kind == "keras":
        from mlaas.runtimes.tabular.network import Network

        return Network(plan)
    from mlaas.runtimes.tabular.scikit import ScikitLearn

    return ScikitLearn(plan)


def _fitted(plan: "Plan", train: "Sample", test: "Sample | None", stages: Any) -> "Learner":
    learner = _new(plan)
    stopping = plan.params.early_stopping
    validation = None
    if stopping is not None:
        train, validation = _validation(plan, train, stopping)
    learner.fit(train, validation, test, stages.watch)
    return learner


def _validation(plan: "Plan", train: "Sample", stopping: EarlyStopping) -> "tuple[Sample, Sample]":
    """(training rows, rows whose loss says when to stop)."""
    import pyarrow as pa

    from mlaas.runtimes.data import split

    labels = None if plan.classes is None or train.y is None else pa.array(train.y)
    try:
        kept, aside = split.rows(len(train.x), stopping.validation_split, seed=plan.params.seed + 1, labels=labels)
    except Invalid as error:
        raise Invalid(error.message, field="early_stopping.validation_split", hint=error.hint) from None
    return train.take(kept), train.take(aside)


def _cross_validated(plan: "Plan", train: "Sample", stages: Any) -> dict[str, Any]:
    """Per metric the mean and the standard deviation over the folds, and each fold's value."""
    wanted = plan.params.cross_validation
    if wanted is None:
        return {}
    from sklearn.model_selection import KFold, StratifiedKFold

    from mlaas.runtimes.tabular.score import evaluate

    folds = wanted.folds
    least = len(train.x) if plan.classes is None else int(np.bincount(train.y).min())  # type: ignore[arg-type]
    if folds > least:
        what = (
            f"the {len(train.x)} training rows" if plan.classes is None else f"the {least} rows of the smallest class"
        )
        raise Invalid(
            f"{folds} folds are more than {what}.",
            field="cross_validation.folds",
            hint=f"Take at most {max(least, 2)}.",
        )
    kind = KFold if plan.classes is None else StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=plan.params.seed)
    values: dict[str, list[float]] = {}
    for i, (kept, aside) in enumerate(splitter.split(train.x, train.y)):
        learner = _fitted(replace(plan), train.take(kept), None, stages.quiet())
        held = train.take(aside)
        for name, value in evaluate(plan, held, learner.answer(held.x)).items():
            if not isinstance(value, dict):
                values.setdefault(name, []).append(value)
        stages.fold(i + 1, folds)
    scores = {
        name: {"mean": float(np.mean(each)), "std": float(np.std(each)), "values": each}
        for name, each in values.items()
    }
    return {"folds": folds, **scores}


def _reconstruction(learner: "Learner", test: "Sample") -> dict[str, float]:
    """Of a decomposition: the share of variance that is kept, and how far rows come back from where they were."""
    if learner.plan.problem != "decomposition":
        return {}
    wanted = learner.plan.params.metrics
    found = dict(learner.facts)
    inverse = getattr(learner, "inverse", lambda _: None)(learner.answer(test.x).values)
    if inverse is not None:
        found["reconstruction_rmse"] = float(np.sqrt(np.mean((np.asarray(inverse) - test.x) ** 2)))
    return {name: value for name, value in found.items() if wanted is None or name in wanted}


def _threads(cores: int) -> Any:
    """OpenMP and BLAS take as many threads as the task has cores."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=cores)


def _words(caught: list[warnings.WarningMessage]) -> list[str]:
    """What libraries warned of, each once."""
    words = [" ".join(str(item.message).split())[:300] for item in caught if _matters(item)]
    return list(dict.fromkeys(words))


def _matters(item: warnings.WarningMessage) -> bool:
    return not issubclass(
        item.category, DeprecationWarning | PendingDeprecationWarning | FutureWarning | ResourceWarning
    )


def _recorded(task: TaskFile) -> dict[str, Any]:
    """The result of an attempt that committed its output and died before it could say so."""
    uri = task.outputs.get(FIELD, "")
    path = Path(uri.removeprefix("file://")) if uri.startswith("file://") else Path(OUTPUT)
    try:
        record = json.loads((path / "metrics.json").read_text())
    except OSError:
        return {}
    return {key: value for key, value in record.items() if key != "parameters"}
