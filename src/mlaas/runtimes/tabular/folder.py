"""The folder of a fitted model. A file called `model.*` takes rows as they are. Everything in the folder follows from data,
parameters and versions: the same fit, the same bytes.

model.skops | model.ubj | model.txt | model.keras     the estimator (scikit-learn, XGBoost, LightGBM, Keras)
preprocessing.skops     the preparation of columns where it is not part of that file
model.onnx              all of it for ONNX Runtime, when it answers held rows as the estimator does
signature.json          what goes in and comes out; see `signature`
input_example.json      {"rows": [[...], ...]}: some rows, features in order
metrics.json            evaluation, data set, parameters and versions
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mlaas.runtimes.tabular.layers import KerasParameters
from mlaas.runtimes.tabular.learner import Answer, Learner, Plan
from mlaas.runtimes.tabular.spec import KERAS, library
from mlaas.runtimes.tabular.table import Array, Column

EXAMPLE_ROWS = 5
MATRIX = "input-0"
_PACKAGES = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu", "lightgbm": "lightgbm", "keras": "keras"}


def signature(plan: Plan, answer: Answer) -> dict[str, Any]:
    """What a model server needs to know, in the words of the Open Inference Protocol (shape: -1 is any number of rows).

    `inputs`: one matrix `input-0` [-1, features] when all features are numbers, else one input [-1, 1] for each feature, under
    its name. `features`: their names in order; `columns`: per feature the datatype and, of a categorical one, the
    `categories` seen. `outputs`: those without `default: false` are what `{"predictions": [...]}` answers; a shape [-1] is
    flat. `classes` in the order of the columns of `probabilities`. `task`: classification, regression, clustering, outliers
    or decomposition.
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
    return document


def _number(plan: Plan) -> str:
    return "FP32" if library(plan.params.estimator) in ("keras", "xgboost") else "FP64"


def _inputs(plan: Plan) -> list[dict[str, Any]]:
    if all(column.number for column in plan.columns):
        return [{"name": MATRIX, "datatype": _number(plan), "shape": [-1, len(plan.columns)]}]
    return [{"name": column.name, "datatype": column.datatype, "shape": [-1, 1]} for column in plan.columns]


def _outputs(plan: Plan, answer: Answer) -> list[dict[str, Any]]:
    number = _number(plan)
    if plan.classes is not None:
        labels = [str(name) for name in plan.classes.names]
        if (
            plan.params.estimator == KERAS
        ):  # a network answers probabilities; that of the second class when it has one unit
            one = KerasParameters.model_validate(plan.params.parameters).output[0] == 1
            shape = [-1] if one else [-1, len(labels)]
            return [{"name": "predict", "datatype": number, "shape": shape, **({} if one else {"labels": labels})}]
        found: list[dict[str, Any]] = [{"name": "predict", "datatype": plan.classes.datatype, "shape": [-1]}]
        if answer.probabilities is not None:
            shape = [-1, len(labels)]
            found.append(
                {"name": "probabilities", "datatype": number, "shape": shape, "default": False, "labels": labels}
            )
        return found
    if plan.problem == "regression":
        return [{"name": "predict", "datatype": number, "shape": [-1]}]
    if plan.problem == "outliers":  # 1 for an inlier, -1 for an outlier; the decision function is below 0 for outliers
        return [
            {"name": "predict", "datatype": "INT64", "shape": [-1]},
            {"name": "decision", "datatype": "FP64", "shape": [-1], "default": False},
        ]
    if plan.problem == "clustering":
        return [{"name": "predict", "datatype": "INT64", "shape": [-1]}]
    return [{"name": "transform", "datatype": "FP64", "shape": [-1, int(answer.values.shape[1])]}]


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
    """Some rows as the body of a V1 request; a number that is missing is null."""

    def cell(value: Any, column: Column) -> Any:
        if column.datatype == "BYTES" or not column.number:
            return value
        number = float(value)
        if np.isnan(number):
            return None
        if column.datatype == "BOOL":
            return bool(number)
        return int(number) if column.datatype == "INT64" else number

    picked = rows[:EXAMPLE_ROWS]
    instances = [[cell(value, column) for value, column in zip(row, plan.columns, strict=True)] for row in picked]
    return {"instances": instances}


def save(learner: Learner, plan: Plan, held: Array, record: dict[str, Any]) -> Callable[[Path], None]:
    """Writes the whole folder. `held` are rows that the estimator did not learn from; ONNX is compared on them."""

    def write(target: Path) -> None:
        saved = learner.save(target)
        answer = learner.answer(held)
        document = signature(plan, answer)
        document["model"] = asdict(saved)
        document["onnx"] = _onnx(learner, held, answer, document, target)
        document["versions"] = versions(plan)
        _json(target / "signature.json", document)
        _json(target / "input_example.json", example(plan, held))
        _json(target / "metrics.json", record)

    return write


def _onnx(learner: Learner, held: Array, answer: Answer, document: dict[str, Any], target: Path) -> dict[str, Any]:
    """Write `model.onnx`: `{"file", "difference", "rows"}`; or `{"reason"}` when there is no converter for the estimator, or
    it did not answer as the estimator does."""
    from mlaas.runtimes.tabular import onnx_model
    from mlaas.runtimes.taskfile import Interrupted

    plan = learner.plan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = onnx_model.named(learner.onnx(), document["inputs"], document["outputs"], document.get("classes"))
            data: bytes = model.SerializeToString(deterministic=True)
            given = onnx_model.run(data, held, plan.columns, document["inputs"])
        largest, wrong = onnx_model.difference(plan, answer, document["outputs"], given)
    except Interrupted:
        raise
    except Exception as error:  # converters and ONNX Runtime raise whatever they like
        return {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    if wrong:
        return {"reason": wrong}
    (target / "model.onnx").write_bytes(data)
    return {"file": "model.onnx", "difference": largest, "rows": len(held)}


def _json(path: Path, document: Any) -> None:
    from mlaas.runtimes.child import plain

    path.write_text(json.dumps(plain(document), indent=1, ensure_ascii=False) + "\n")
