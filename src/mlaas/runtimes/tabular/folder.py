"""The folder of a fitted model. Everything in it follows from data, parameters and versions: the same fit, the same bytes.

model.skops | model.ubj | model.txt | model.keras     the estimator (scikit-learn, XGBoost, LightGBM, Keras)
preprocessing.skops     the preparation of columns where it is not part of that file
model.onnx              all of it for ONNX Runtime, when it answers held rows as the estimator does
signature.json          what goes in and comes out; see `signature`
input_example.json      {"rows": [[...], ...]}: some rows, features in order
metrics.json            evaluation, data set, parameters and versions
"""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mlaas.runtimes.tabular.learner import Answer, Learner, Plan, Saved
from mlaas.runtimes.tabular.spec import KERAS, library
from mlaas.runtimes.tabular.table import Array, Column

EXAMPLE_ROWS = 5
MATRIX = "input"
_PACKAGES = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu", "lightgbm": "lightgbm", "keras": "keras"}


def signature(plan: Plan, answer: Answer, saved: Saved, onnx: dict[str, Any] | None) -> dict[str, Any]:
    """What a model server needs to know, in the words of the Open Inference Protocol (shape: -1 is any number of rows).

    `inputs`: one matrix `input` [-1, features] when all features are numbers, else one input [-1, 1] for each feature, under
    its name. `features`: their names in order; `columns`: per feature the datatype and, of a categorical one, the
    `categories` seen. `outputs`: the first one is what `{"predictions": [...]}` answers; a shape [-1] is flat.
    `classes` in the order of the columns of `probabilities`. `model`: the file, its format, the file that prepares columns
    for it, the types that skops has to be told to trust. `onnx`: the file and how far it was from the model on held rows.
    """
    document: dict[str, Any] = {
        "task": plan.problem,
        "inputs": _inputs(plan),
        "outputs": _outputs(plan, answer),
        "features": [column.name for column in plan.columns],
        "columns": [_described(column) for column in plan.columns],
    }
    if plan.classes is not None:
        document["classes"] = plan.classes.names
    if plan.params.target is not None and plan.problem in ("classification", "regression"):
        document["target"] = plan.params.target
    document["estimator"] = plan.params.estimator
    document["model"] = {
        "file": saved.file,
        "format": saved.format,
        "preprocessing": saved.preprocessing,
        "trusted": saved.trusted,
    }
    if onnx is not None:
        document["onnx"] = onnx
    document["versions"] = versions(plan)
    return document


def _number(plan: Plan) -> str:
    return "FP32" if library(plan.params.estimator) in ("keras", "xgboost") else "FP64"


def _inputs(plan: Plan) -> list[dict[str, Any]]:
    if all(column.number for column in plan.columns):
        return [{"name": MATRIX, "datatype": _number(plan), "shape": [-1, len(plan.columns)]}]
    return [{"name": column.name, "datatype": column.datatype, "shape": [-1, 1]} for column in plan.columns]


def _outputs(plan: Plan, answer: Answer) -> list[dict[str, Any]]:
    number = _number(plan)
    if plan.problem == "classification":
        assert plan.classes is not None
        probabilities = {"name": "probabilities", "datatype": number, "shape": [-1, len(plan.classes.names)]}
        if plan.params.estimator == KERAS:
            two = len(plan.classes.names) == 2 and plan.params.parameters["layers"][-1] is not None
            one_unit = two and answer.scores is not None
            return [{"name": "probability", "datatype": number, "shape": [-1]}] if one_unit else [probabilities]
        label = {"name": "label", "datatype": plan.classes.datatype, "shape": [-1]}
        return [label, probabilities] if answer.probabilities is not None else [label]
    if plan.problem == "regression":
        return [{"name": "prediction", "datatype": number, "shape": [-1]}]
    if plan.problem == "outliers":
        return [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "score", "datatype": "FP64", "shape": [-1]},
        ]
    if plan.problem == "clustering":
        return [{"name": "cluster", "datatype": "INT64", "shape": [-1]}]
    return [{"name": "components", "datatype": "FP64", "shape": [-1, int(answer.values.shape[1])]}]


def _described(column: Column) -> dict[str, Any]:
    document: dict[str, Any] = {"name": column.name, "kind": column.kind, "datatype": column.datatype}
    if column.categories is not None:
        document["categories"] = column.categories
    return document


def versions(plan: Plan) -> dict[str, str]:
    """Of the libraries that read the files back."""
    names = {_PACKAGES[library(plan.params.estimator)], "scikit-learn", "skops", "numpy"}
    return {name: version(name) for name in sorted(names)}


def example(plan: Plan, rows: Array) -> dict[str, Any]:
    """Some rows as JSON: a number that is missing is null."""

    def cell(value: Any, column: Column) -> Any:
        if column.datatype == "BYTES" or not column.number:
            return value
        number = float(value)
        if np.isnan(number):
            return None
        if column.datatype == "BOOL":
            return bool(number)
        return int(number) if column.datatype == "INT64" else number

    return {
        "columns": [column.name for column in plan.columns],
        "rows": [
            [cell(value, column) for value, column in zip(row, plan.columns, strict=True)]
            for row in rows[:EXAMPLE_ROWS]
        ],
    }


def save(learner: Learner, plan: Plan, held: Array, record: dict[str, Any]) -> Callable[[Path], None]:
    """Writes the whole folder. `held` are rows that the estimator did not learn from; ONNX is compared on them."""

    def write(target: Path) -> None:
        saved = learner.save(target)
        onnx = _onnx(learner, held, target, record)
        answer = learner.answer(held[:EXAMPLE_ROWS])
        _json(target / "signature.json", signature(plan, answer, saved, onnx))
        _json(target / "input_example.json", example(plan, held))
        _json(target / "metrics.json", record)

    return write


def _onnx(learner: Learner, held: Array, target: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    return None


def _json(path: Path, document: Any) -> None:
    from mlaas.runtimes.child import plain

    path.write_text(json.dumps(plain(document), indent=1, ensure_ascii=False) + "\n")
