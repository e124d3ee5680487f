"""Estimators and networks as ONNX, with the names of the signature, and compared with the original on held rows.

A converted model computes in float32. It is kept when labels, clusters and inliers are the same on every held row, and
probabilities and numbers differ by at most 1e-5, absolutely or relatively.
"""

import warnings
from typing import Any

import numpy as np

from mlaas.runtimes.tabular.learner import Answer, Plan
from mlaas.runtimes.tabular.table import Array, Column

OPSET = 20
TOLERANCE = 1e-5
_MATRIX = "input"


def of_estimator(model: Any, plan: Plan) -> Any:
    """A scikit-learn estimator or pipeline, boosters in it included, as `onnx.ModelProto`. Raises what the converters raise
    for an estimator that they do not know."""
    from skl2onnx import to_onnx

    _register()
    settings = {
        "initial_types": _types(plan.columns),
        "name": "model",
        "target_opset": {"": OPSET, "ai.onnx.ml": 3},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if plan.problem != "classification":
            return to_onnx(model, **settings)
        try:
            return to_onnx(model, options={id(model): {"zipmap": False}}, **settings)
        except NameError:  # some classifiers have no such option: their scores are a matrix anyway
            return to_onnx(model, **settings)


def _types(columns: list[Column]) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    if all(column.number for column in columns):
        return [(_MATRIX, FloatTensorType([None, len(columns)]))]
    kinds = {"BYTES": StringTensorType, "INT64": Int64TensorType}
    # A number is a float, whatever the data set had: an imputer and a scaler take nothing else.
    return [
        (f"{_MATRIX}_{i}", FloatTensorType([None, 1]) if column.number else kinds[column.datatype]([None, 1]))
        for i, column in enumerate(columns)
    ]


def _register() -> None:
    """Teach skl2onnx the boosters that are installed."""
    from importlib.util import find_spec

    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    choices = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    if find_spec("xgboost"):
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        for name in ("XGBClassifier", "XGBRFClassifier", "XGBRegressor", "XGBRFRegressor"):
            classifier = "Classifier" in name
            update_registered_converter(
                getattr(xgboost, name),
                f"XGBoost{name}",
                calculate_linear_classifier_output_shapes if classifier else calculate_linear_regressor_output_shapes,
                convert_xgboost,
                options=choices if classifier else None,
            )
    if find_spec("lightgbm"):
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(
            lightgbm.LGBMClassifier,
            "LightGbmLGBMClassifier",
            calculate_linear_classifier_output_shapes,
            convert_lightgbm,
            options=choices,
        )
        update_registered_converter(
            lightgbm.LGBMRegressor,
            "LightGbmLGBMRegressor",
            calculate_linear_regressor_output_shapes,
            convert_lightgbm,
            options={"split": None},
        )


def named(model: Any, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], classes: list[Any] | None) -> Any:
    """The model with the signature's inputs and outputs: names, flat where the signature is, 64-bit integers. Outputs that
    the signature does not name are dropped; whole-number classes that a converter numbered are named again."""
    from onnx import TensorProto, compose, helper

    model = compose.add_prefix(model, "inner/")  # a converter's names may be those that are given here
    graph = model.graph
    for node in graph.node:
        if node.op_type == "StringNormalizer":  # a locale that is on every machine
            kept = [each for each in node.attribute if each.name != "locale"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.append(helper.make_attribute("locale", "C"))
    new = {old.name: wanted["name"] for old, wanted in zip(graph.input, inputs, strict=True)}
    for value in graph.input:
        value.name = new[value.name]
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in new:
                node.input[i] = new[name]
    if len(graph.output) < len(outputs):
        raise ValueError(f"it gives {len(graph.output)} outputs, not {len(outputs)}")
    made = []
    if any(len(wanted["shape"]) == 1 for wanted in outputs):
        graph.initializer.append(helper.make_tensor("shape-flat", TensorProto.INT64, [1], [-1]))
    for i, wanted in enumerate(outputs):
        old = graph.output[i]
        kind = old.type.tensor_type.elem_type
        last = old.name
        if len(wanted["shape"]) == 1:
            graph.node.append(helper.make_node("Reshape", [last, "shape-flat"], [f"flat-{i}"]))
            last = f"flat-{i}"
        if wanted["datatype"] == "INT64" and kind != TensorProto.INT64:
            graph.node.append(helper.make_node("Cast", [last], [f"whole-{i}"], to=TensorProto.INT64))
            last, kind = f"whole-{i}", TensorProto.INT64
        if classes is not None and wanted["name"] == "predict" and _numbered(kind, wanted["datatype"], classes):
            values = classes if wanted["datatype"] == "INT64" else [str(name) for name in classes]
            of = TensorProto.INT64 if wanted["datatype"] == "INT64" else TensorProto.STRING
            raw = values if of == TensorProto.INT64 else [name.encode() for name in values]
            graph.initializer.append(helper.make_tensor("classes", of, [len(classes)], raw))
            graph.node.append(helper.make_node("Gather", ["classes", last], ["class"]))
            last, kind = "class", of
        graph.node.append(helper.make_node("Identity", [last], [wanted["name"]]))
        dimensions = [None if size == -1 else size for size in wanted["shape"]]
        made.append(helper.make_tensor_value_info(wanted["name"], kind, dimensions))
    del graph.output[:]
    graph.output.extend(made)
    return model


def _numbered(kind: int, wanted: str, classes: list[Any]) -> bool:
    """Whether the model gives codes of classes that have other names (boosters and networks learn codes)."""
    from onnx import TensorProto

    if kind != TensorProto.INT64:
        return False
    return wanted == "BYTES" or classes != list(range(len(classes)))


def run(data: bytes, x: Array, columns: list[Column], inputs: list[dict[str, Any]]) -> dict[str, Array]:
    """What ONNX Runtime answers for rows as `Features.rows` makes them, by output name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    if all(column.number for column in columns):
        given = {inputs[0]["name"]: x.astype(np.float32)}
    else:
        given = {
            wanted["name"]: (
                x[:, [i]].astype(np.float32)
                if column.number
                else x[:, [i]].astype(np.int64)
                if column.datatype == "INT64"
                else x[:, [i]].astype(str).astype(object)
            )
            for i, (column, wanted) in enumerate(zip(columns, inputs, strict=True))
        }
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def difference(plan: Plan, answer: Answer, outputs: list[dict[str, Any]], given: dict[str, Array]) -> tuple[float, str]:
    """(the largest difference, what is wrong or "")."""
    largest = 0.0
    for wanted in outputs:
        expected, got = _expected(plan, answer, wanted), given[wanted["name"]]
        if expected.dtype.kind in "iuOUS":
            same = expected.astype(str) == np.asarray(got).astype(str)
            if not same.all():
                return largest, f"{wanted['name']} differs in {int((~same).sum())} of {len(same)} held rows"
            continue
        if got.shape != expected.shape:
            return largest, f"{wanted['name']} has the shape {list(got.shape)}, not {list(expected.shape)}"
        apart = np.abs(got.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
        worst = float(apart.max()) if apart.size else 0.0
        largest = max(largest, worst)
        if not worst <= TOLERANCE:
            return largest, f"{wanted['name']} differs by {worst:.3g}"
    return largest, ""


def _expected(plan: Plan, answer: Answer, wanted: dict[str, Any]) -> Array:
    name = wanted["name"]
    if name == "probabilities" or (plan.classes is not None and wanted["datatype"].startswith("FP")):
        assert answer.probabilities is not None
        return answer.probabilities[:, 1] if len(wanted["shape"]) == 1 else answer.probabilities
    if name == "decision":
        assert answer.scores is not None
        return answer.scores
    if plan.classes is not None:
        return plan.classes.array()[answer.values]
    return answer.values
