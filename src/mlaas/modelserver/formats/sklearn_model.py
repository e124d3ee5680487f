"""A fitted scikit-learn estimator as an Original: its signature and its answers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Original
from mlaas.modelserver.formats.folder import Declared, example, to_array
from mlaas.modelserver.formats.rows import made_up, texts
from mlaas.modelserver.formats.sklearn_columns import Layout, layout_of
from mlaas.modelserver.formats.sklearn_trees import works_in_float32
from mlaas.modelserver.formats.trees import Trees
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES, datatype_of

INPUT = "input-0"

_METHODS = {
    "predict": "predict",
    "probabilities": "predict_proba",
    "decision": "decision_function",
    "score": "score_samples",
    "transform": "transform",
}
"""What an output is (its role) -> the method that gives it. Roles are the names of outputs, unless the folder declares others."""

_ROLES = {
    "label": "predict",
    "prediction": "predict",
    "cluster": "predict",
    "components": "transform",
    "output-0": "predict",
}


class FittedModel(Original):
    """`predict` for estimators, `transform` for those that only transform; beside a label, `probabilities` and `decision` of
    those that have them."""

    def __init__(self, model: Any, root: Path, declared: Declared, warnings: list[str]) -> None:
        self.model = model
        self.warnings = warnings
        self.classes = getattr(model, "classes_", None)
        self.layout: Layout = layout_of(model, declared)
        self.trees: Trees | None = None  # of a lone ensemble, once it is compiled
        self.given = 0  # rows of `sample` that the folder brought
        self._root = root
        outputs = self._outputs(_methods(model))
        self.roles = {spec.name: spec.name for spec in outputs}
        if declared.outputs:
            outputs = self._declared(declared, outputs)
        self.signature = Signature(
            inputs=self._inputs(declared),
            outputs=outputs,
            features=tuple(self.layout.names) if self.layout.kind == "matrix" else (),
            platform="sklearn",
            properties={"estimator": type(model).__name__},
        )
        self._specs = {spec.name: spec for spec in outputs}

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        rows = self.layout.rows(inputs, self.signature.inputs)
        answers = []
        for name in outputs:
            try:
                answer = getattr(self.model, _METHODS[self.roles[name]])(rows)
            except (ValueError, TypeError, KeyError) as error:
                said = str(error).split("\n")[0][:500]
                raise Invalid(f"The model refuses the rows: {said}", field="inputs") from None
            answers.append(self._array(self._specs[name], answer))
        return answers

    def sample(self) -> list[NDArray[Any]] | None:
        survey = self.layout.survey
        if self.trees is not None:
            survey.learn_splits(self.trees.features, self.trees.splits)
        if self.layout.kind == "texts":
            rows = [to_array(texts(self.layout.vocabulary), self.signature.inputs[0])]
        else:
            rows = made_up(self.signature, survey)
        if self.trees is not None and self.layout.kind == "matrix":
            rows = [np.concatenate([rows[0], self.trees.boundary_rows(rows[0], rows[0].dtype.type)])]
        given = example(self._root, self.signature)
        if given is None:
            return rows
        self.given = len(given[0])
        return [np.concatenate([mine, other]) for mine, other in zip(given, rows, strict=True)]

    def _array(self, spec: TensorSpec, answer: Any) -> NDArray[Any]:
        if hasattr(answer, "toarray"):
            answer = answer.toarray()
        if isinstance(answer, list):  # a classifier of several outputs gives a matrix for each
            answer = np.stack(answer, axis=1)
        answer = np.asarray(answer)
        answer = (
            answer.reshape(len(answer), -1) if len(spec.shape) == 2 else answer.reshape(answer.shape[: len(spec.shape)])
        )
        if spec.datatype == "BYTES":
            return to_array(answer, spec)
        return np.ascontiguousarray(answer, dtype=DTYPES[spec.datatype])

    def _inputs(self, declared: Declared) -> tuple[TensorSpec, ...]:
        if declared.inputs:
            return tuple(declared.inputs)
        if self.layout.kind == "texts":
            return (TensorSpec("text", "BYTES", (-1,)),)
        if self.layout.kind == "columns":
            texts = self.layout.texts
            return tuple(
                TensorSpec(name, "BYTES" if at in texts else "FP64", (-1, 1))
                for at, name in enumerate(self.layout.names)
            )
        # Where the estimator itself works on float32 (trees), nothing is lost by it.
        return (TensorSpec(INPUT, "FP32" if works_in_float32(self.model) else "FP64", (-1, self.layout.width)),)

    def _declared(self, declared: Declared, known: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        """The outputs under the names that the folder gives them; the first one is the default unless it says otherwise."""
        specs = {spec.name: spec for spec in known}
        outlier = "decision" in specs and "score" in specs and self.classes is None
        found = []
        for place, spec in enumerate(declared.outputs):
            role = _ROLES.get(spec.name, spec.name)
            if role == "score" and outlier:
                role = "decision"
            if role not in specs:
                raise Invalid(
                    f"signature.json declares the output '{spec.name}'; a {type(self.model).__name__} gives "
                    f"{', '.join(specs)}.",
                    field="signature",
                )
            default = spec.default if spec.default is not None else place == 0
            self.roles[spec.name] = role
            found.append(dataclasses.replace(specs[role], name=spec.name, default=default))
        return tuple(found)

    def _outputs(self, roles: list[str]) -> tuple[TensorSpec, ...]:
        specs = []
        labels = tuple(str(label) for label in self.classes) if isinstance(self.classes, np.ndarray) else ()
        targets = _targets(self.model)
        wide = (-1, targets) if targets > 1 else (-1,)
        for role in roles:
            if role == "predict":
                specs.append(TensorSpec(role, self._label_type(), wide))
            elif role == "probabilities" and isinstance(self.classes, list):
                if len({len(each) for each in self.classes}) == 1:  # else they are no one tensor
                    specs.append(TensorSpec(role, "FP64", (-1, targets, len(self.classes[0])), False))
            elif role == "probabilities":
                specs.append(TensorSpec(role, "FP64", (-1, len(labels) or -1), False, labels))
            elif role == "decision":
                specs.append(TensorSpec(role, "FP64", (-1, -1) if len(labels) > 2 else wide, False))
            elif role == "score":
                specs.append(TensorSpec(role, "FP64", (-1,), False))
            else:
                specs.append(TensorSpec(role, "FP64", (-1, -1), "predict" not in roles))
        return tuple(specs)

    def _label_type(self) -> str:
        if self.classes is None:
            kind = _kind(self.model)
            return "INT64" if kind in ("clusterer", "outlier_detector") else "FP64"
        classes = np.asarray(self.classes[0] if isinstance(self.classes, list) else self.classes)
        if classes.dtype.kind in "USO":
            return "BYTES"
        return "INT64" if classes.dtype.kind in "iu" else datatype_of(classes)


def _kind(model: Any) -> str:
    """scikit-learn's word: classifier, regressor, clusterer, outlier_detector, ...; "" where it does not say."""
    import sklearn.utils

    try:
        return str(sklearn.utils.get_tags(model).estimator_type or "")
    except (AttributeError, TypeError, ValueError):
        return str(getattr(model, "_estimator_type", ""))


def _methods(model: Any) -> list[str]:
    """The roles that an estimator can fill. Raises Invalid for one that cannot be applied to new rows."""
    found = [role for role, method in _METHODS.items() if hasattr(model, method)]
    if "predict" in found and "transform" in found:
        found.remove("transform")  # what a predictor transforms to is an inner matter
    if not found:
        raise Invalid(
            f"A {type(model).__name__} has neither `predict` nor `transform`.",
            field="source",
            hint="Save an estimator that can be applied to new rows.",
        )
    return found


def _targets(model: Any) -> int:
    """How many values a row's prediction has."""
    for holder in (model, *(step for _, step in reversed(getattr(model, "steps", ())))):
        found = getattr(holder, "n_outputs_", None)
        if isinstance(found, int):
            return found
        coef = getattr(holder, "coef_", None)
        if isinstance(coef, np.ndarray) and not hasattr(model, "classes_"):
            return coef.shape[0] if coef.ndim == 2 and _kind(model) == "regressor" else 1
    return 1
