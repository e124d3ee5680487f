"""A fitted scikit-learn estimator as an Original: its signature, its answers, its compiled form."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Original
from mlaas.modelserver.formats.folder import Declared, example, to_array
from mlaas.modelserver.formats.rows import made_up
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES, datatype_of

INPUT = "input-0"


class ScikitLearnModel(Original):
    """`predict` for estimators, `transform` for those that only transform; beside a label, `probabilities` and `decision` of
    those that have them."""

    def __init__(self, model: Any, root: Path, declared: Declared, warnings: list[str]) -> None:
        self.model = model
        self.declared = declared
        self.warnings = warnings
        self.classes = getattr(model, "classes_", None)
        self._methods = methods(model)
        self._columns = columns_of(model, declared)
        self.signature = self._signature()
        self._root = root

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        rows = self._rows(inputs)
        answers = []
        for name in outputs:
            try:
                answer = getattr(self.model, self._methods[name])(rows)
            except (ValueError, TypeError, KeyError) as error:
                raise Invalid(
                    f"The model refuses the rows: {str(error).split(chr(10))[0][:500]}", field="inputs"
                ) from None
            answers.append(self._array(name, answer))
        return answers

    def sample(self) -> list[NDArray[Any]] | None:
        given = example(self._root, self.signature)
        rows = made_up(self.model, self.signature)
        if given is None:
            return rows
        return [np.concatenate([mine, other]) for mine, other in zip(given, rows, strict=True)]

    def compile(self, target: Path) -> dict[str, Any] | None:
        from mlaas.modelserver.formats.sklearn_export import export

        return export(self, target)

    def _rows(self, inputs: list[NDArray[Any]]) -> Any:
        """The matrix, or a data frame where the model was trained on named columns of several types."""
        if not self._columns:
            return inputs[0]
        pandas = frames()
        columns = {}
        for spec, array in zip(self.signature.inputs, inputs, strict=True):
            values = array.reshape(-1)
            if spec.datatype == "BYTES":
                values = np.array([v.decode() if isinstance(v, bytes) else v for v in values], dtype=object)
            columns[spec.name] = values
        return pandas.DataFrame(columns)

    def _array(self, name: str, answer: Any) -> NDArray[Any]:
        spec = next(spec for spec in self.signature.outputs if spec.name == name)
        if hasattr(answer, "toarray"):
            answer = answer.toarray()
        if isinstance(answer, list):  # a classifier of several outputs gives a matrix for each
            answer = np.stack(answer, axis=1)
        answer = np.asarray(answer)
        if spec.datatype == "BYTES":
            return to_array(answer, spec)
        answer = answer.reshape(len(answer), *(size for size in spec.shape[1:])) if -1 not in spec.shape[1:] else answer
        return np.ascontiguousarray(answer, dtype=DTYPES[spec.datatype])

    def _signature(self) -> Signature:
        features = tuple(str(name) for name in getattr(self.model, "feature_names_in_", ()))
        features = features or tuple(self.declared.features)
        width = getattr(self.model, "n_features_in_", None) or len(features) or -1
        if self.declared.inputs:
            inputs = tuple(self.declared.inputs)
        elif self._columns:
            inputs = tuple(TensorSpec(name, kind, (-1, 1)) for name, kind in self._columns.items())
        else:
            inputs = (TensorSpec(INPUT, self._input_type(), (-1, int(width))),)
        return Signature(
            inputs=inputs,
            outputs=self._outputs(),
            features=features if len(inputs) == 1 else (),
            platform="sklearn",
            properties={"estimator": type(self.model).__name__},
        )

    def _input_type(self) -> str:
        """FP32 where the estimator itself works on float32 (trees), so that nothing is lost by it; else FP64."""
        from mlaas.modelserver.formats.sklearn_trees import works_in_float32

        return "FP32" if works_in_float32(self.model) else "FP64"

    def _outputs(self) -> tuple[TensorSpec, ...]:
        specs = []
        labels = tuple(str(label) for label in self.classes) if isinstance(self.classes, np.ndarray) else ()
        targets = _targets(self.model)
        wide = (-1, targets) if targets > 1 else (-1,)
        for name in self._methods:
            if name == "predict":
                specs.append(TensorSpec(name, self._label_type(), wide))
            elif name == "probabilities":
                if isinstance(self.classes, list):
                    if len({len(each) for each in self.classes}) > 1:
                        continue  # outputs of different numbers of classes are no one tensor
                    specs.append(TensorSpec(name, "FP64", (-1, targets, len(self.classes[0])), False))
                else:
                    specs.append(TensorSpec(name, "FP64", (-1, len(labels) or -1), False, labels))
            elif name == "decision":
                many = len(labels) > 2
                specs.append(TensorSpec(name, "FP64", (-1, -1) if many else wide, False))
            elif name in ("score", "deviation"):
                shape = (-1, 2) if name == "deviation" else (-1,)
                specs.append(TensorSpec(name, "FP64", shape, False))
            else:
                specs.append(TensorSpec(name, "FP64", (-1, -1), "predict" not in self._methods))
        return tuple(specs)

    def _label_type(self) -> str:
        if self.classes is None:
            found = getattr(self.model, "labels_", None)
            if getattr(self.model, "_estimator_type", "") in ("clusterer", "outlier_detector") or found is not None:
                return "INT64"
            return "INT64" if hasattr(self.model, "score_samples") and hasattr(self.model, "fit_predict") else "FP64"
        classes = self.classes[0] if isinstance(self.classes, list) else self.classes
        kind = np.asarray(classes).dtype.kind
        if kind in "USO":
            return "BYTES"
        return "INT64" if kind in "iu" else datatype_of(np.asarray(classes))


def methods(model: Any) -> dict[str, str]:
    """Output name -> the estimator's method."""
    table = {
        "predict": "predict",
        "probabilities": "predict_proba",
        "decision": "decision_function",
        "score": "score_samples",
        "transform": "transform",
    }
    found = {name: method for name, method in table.items() if hasattr(model, method)}
    if "predict" in found and not hasattr(model, "cluster_centers_"):
        found.pop("transform", None)  # what a predictor transforms to is an inner matter
    if not found:
        raise Invalid(
            f"A {type(model).__name__} has neither `predict` nor `transform`.",
            field="source",
            hint="Save an estimator that can be applied to new rows.",
        )
    return found


def columns_of(model: Any, declared: Declared) -> dict[str, str]:
    """Column name -> datatype where rows are columns of several types; empty where they are one matrix of numbers."""
    if len(declared.inputs) > 1:
        return {spec.name: spec.datatype for spec in declared.inputs}
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return {}
    texts = text_columns(model, [str(name) for name in names])
    return {str(name): "BYTES" if str(name) in texts else "FP64" for name in names} if texts else {}


def text_columns(model: Any, names: list[str]) -> set[str]:
    """The columns that an encoder in the pipeline was trained on as text."""
    texts: set[str] = set()
    steps = getattr(model, "steps", None)
    if steps:
        return text_columns(steps[0][1], names) if not isinstance(steps[0][1], str) else texts
    for _, transformer, chosen in getattr(model, "transformers_", ()):
        encoder = _first(transformer)
        places = _places(chosen, names)
        categories = getattr(encoder, "categories_", None)
        if categories is not None:
            texts |= {names[at] for at, known in zip(places, categories, strict=True) if known.dtype.kind in "USO"}
        elif hasattr(encoder, "vocabulary_"):
            texts |= {names[at] for at in places}
    categories = getattr(model, "categories_", None)
    if categories is not None:
        texts |= {name for name, known in zip(names, categories, strict=True) if known.dtype.kind in "USO"}
    return texts


def _first(transformer: Any) -> Any:
    """The step of a pipeline that first sees what kind of values there are (an imputer does not mind)."""
    for _, step in getattr(transformer, "steps", ()):
        if step is not None and not isinstance(step, str) and not hasattr(step, "statistics_"):
            return _first(step)
    return transformer


def _places(chosen: Any, names: list[str]) -> list[int]:
    if isinstance(chosen, str | int | np.integer):
        chosen = [chosen]
    if isinstance(chosen, slice):
        return list(range(len(names)))[chosen]
    array = np.asarray(chosen)
    if array.dtype == bool:
        return [int(at) for at in np.flatnonzero(array)]
    return [names.index(str(at)) if isinstance(at, str) else int(at) for at in array.tolist()]


def _targets(model: Any) -> int:
    for holder in (model, *(step for _, step in reversed(getattr(model, "steps", ())))):
        found = getattr(holder, "n_outputs_", None)
        if isinstance(found, int):
            return found
        coef = getattr(holder, "coef_", None)
        if isinstance(coef, np.ndarray) and not hasattr(model, "classes_"):
            return coef.shape[0] if coef.ndim == 2 else 1
    return 1


def frames() -> Any:
    """pandas. Raises Invalid with the fix where it is not installed."""
    from importlib import import_module

    try:
        return import_module("pandas")
    except ModuleNotFoundError:
        raise Invalid(
            "The model was trained on named columns of several types; to open it needs pandas, not installed here.",
            field="environment",
            hint="`pip install pandas`, or name it in `environment.requirements`.",
        ) from None
