"""What XGBoost and LightGBM models have in common: a booster over a matrix, perhaps behind a scikit-learn transformer that the
folder keeps as `preprocessing.skops`."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Opened, Original
from mlaas.modelserver.formats.folder import Declared, declared, example, to_array
from mlaas.modelserver.formats.program_arrays import Arrays, class_document
from mlaas.modelserver.formats.rows import Survey, made_up
from mlaas.modelserver.formats.trees import Trees
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES, datatype_of

INPUT = "input-0"
PREPROCESSING = "preprocessing.skops"

_ROLES = {"label": "predict", "prediction": "predict", "output-0": "predict", "probability": "predict"}


class BoosterModel(Original):
    """`predict` is what the booster's own `predict` gives (of a binary classifier the probability of class 1), unless it was
    trained as a classifier with classes: then it is the class, and `probabilities` may be asked for.

    Subclasses give the booster's answer (`_raw`) and its trees (`_export`).
    """

    platform: ClassVar[str]
    number: ClassVar[str]  # FP32 or FP64: in which the library works

    def __init__(self, opened: Opened, width: int, scores: int, names: list[str], classes: NDArray[Any] | None) -> None:
        """`scores`: how many numbers a row the booster gives; `classes`: of a classifier."""
        said = declared(opened.root)
        self.root = opened.root
        self.warnings: list[str] = []
        self.given = 0
        self.width = width
        self.scores = scores
        self.classes = _classes(said, classes, scores)
        self.trees: Trees | None = None
        self.preparation = self._preparation(opened)
        self.layout: Any = None
        if self.preparation is not None:
            from mlaas.modelserver.formats.sklearn_columns import layout_of

            self.layout = layout_of(self.preparation, said)
        features = said.features or names
        inputs = tuple(said.inputs) or (TensorSpec(INPUT, self.number, (-1, width)),)
        self.roles: dict[str, str] = {}
        self.signature = Signature(
            inputs=inputs,
            outputs=self._outputs(said),
            features=tuple(features) if len(inputs) == 1 and len(features) == inputs[0].shape[-1] else (),
            platform=self.platform,
        )

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        raw = np.asarray(self._raw(self._matrix(inputs)), DTYPES[self.number])
        answers = []
        for spec in self.signature.outputs:
            role = self.roles[spec.name]
            if role == "probabilities":
                answers.append((spec.name, np.stack([1 - raw, raw], axis=1) if raw.ndim == 1 else raw))
            elif self.classes is None:
                answers.append((spec.name, raw))
            else:
                chosen = (raw > 0.5).astype(int) if raw.ndim == 1 else raw.argmax(axis=1)
                answers.append((spec.name, _cast(self.classes[chosen], spec)))
        found = dict(answers)
        return [np.ascontiguousarray(found[name]) for name in outputs]

    def sample(self) -> list[NDArray[Any]] | None:
        if self.layout is not None:
            rows = made_up(self.signature, self.layout.survey)
        else:
            survey = Survey(self.width)
            if self.trees is not None:
                survey.learn_splits(self.trees.features, self.trees.splits)
            rows = made_up(self.signature, survey)
            if self.trees is not None:
                more = self.trees.boundary_rows(rows[0], rows[0].dtype.type)
                empty = rows[0][:16].copy()
                empty[np.random.default_rng(2).uniform(size=empty.shape) < 0.3] = np.nan
                rows = [np.concatenate([rows[0], more, empty])]
        given = example(self.root, self.signature)
        if given is None:
            return rows
        self.given = len(given[0])
        return [np.concatenate([mine, other]) for mine, other in zip(given, rows, strict=True)]

    def compile(self, target: Path) -> dict[str, Any] | None:
        from mlaas.modelserver.formats.sklearn_export import together
        from mlaas.modelserver.formats.sklearn_steps import step_of

        arrays = Arrays()
        steps = [] if self.preparation is None else together(step_of(self.preparation, arrays), self.layout)
        trees = Trees()
        head, forms = self._export(trees, arrays)
        trees.write(target, self.width)
        self.trees = trees
        outputs: dict[str, Any] = {}
        for name, role in self.roles.items():
            if role == "probabilities":
                outputs[name] = forms["probabilities"]
            elif self.classes is None:
                outputs[name] = forms["predict"]
            else:
                likely = forms["probabilities"]
                of = {"form": "likeliest", "of": likely["form"], "factor": likely.get("factor", 1.0)}
                outputs[name] = {**of, "classes": class_document(self.classes, arrays)}
        arrays.write(target)
        return {
            "kind": "program",
            "steps": steps,
            "head": {"op": "forest", **head, "outputs": outputs},
            "missing": True,
        }

    @abstractmethod
    def _raw(self, matrix: NDArray[Any]) -> Any:
        """The booster's own answer: [rows], or [rows, scores]."""

    @abstractmethod
    def _export(self, trees: Trees, arrays: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fill `trees`; the head without its outputs, and the forms of `predict` and, of a classifier, `probabilities`.
        Raises Uncompiled."""

    def _matrix(self, inputs: list[NDArray[Any]]) -> NDArray[Any]:
        if self.preparation is None:
            return inputs[0]
        try:
            prepared = self.preparation.transform(self.layout.rows(inputs, self.signature.inputs))
        except (ValueError, TypeError, KeyError) as error:
            raise Invalid(f"The model refuses the rows: {str(error).splitlines()[0][:500]}", field="inputs") from None
        dense = prepared.toarray() if hasattr(prepared, "toarray") else prepared
        return np.ascontiguousarray(dense, dtype=np.float64)

    def _preparation(self, opened: Opened) -> Any:
        if not opened.root.is_dir() or not (opened.root / PREPROCESSING).is_file():
            return None
        from mlaas.modelserver.formats.registry import require
        from mlaas.modelserver.formats.sklearn import FORMAT, open_skops

        require(FORMAT, opened.root)
        return open_skops(opened.root / PREPROCESSING, opened)

    def _outputs(self, said: Declared) -> tuple[TensorSpec, ...]:
        labels = () if self.classes is None else tuple(str(label) for label in self.classes)
        wide = (-1,) if self.scores == 1 else (-1, self.scores)
        known = {"predict": TensorSpec("predict", self.number, wide)}
        if self.classes is not None:
            known = {
                "predict": TensorSpec("predict", _word(self.classes), (-1,)),
                "probabilities": TensorSpec("probabilities", self.number, (-1, len(labels)), False, labels),
            }
        if not said.outputs:
            self.roles = {role: role for role in known}
            return tuple(known.values())
        found = []
        for place, spec in enumerate(said.outputs):
            role = _ROLES.get(spec.name, spec.name)
            if role not in known:
                raise Invalid(
                    f"signature.json declares the output '{spec.name}'; the model gives {', '.join(known)}.",
                    field="signature",
                )
            self.roles[spec.name] = role
            default = spec.default if spec.default is not None else place == 0
            base = known[role]
            found.append(TensorSpec(spec.name, base.datatype, base.shape, default, base.labels))
        return tuple(found)


def _classes(said: Declared, own: NDArray[Any] | None, scores: int) -> NDArray[Any] | None:
    """Of a classifier: those that the folder declares, else those that the model says it was trained on."""
    if said.classes:
        wanted = 2 if scores == 1 else scores
        if len(said.classes) != wanted:
            raise Invalid(
                f"signature.json names {len(said.classes)} classes; the model tells {wanted} apart.", field="signature"
            )
        return np.array(said.classes)
    return own


def _word(classes: NDArray[Any]) -> str:
    return "INT64" if classes.dtype.kind in "iu" else datatype_of(classes)


def _cast(labels: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    return to_array(labels, spec) if spec.datatype == "BYTES" else labels.astype(DTYPES[spec.datatype])
