"""From fitted scikit-learn estimators to a compiled program (`mlaas.modelserver.compiled.program`).

An estimator that is not known here is none that compiles: `Uncompiled` names it. Whether the program agrees with the estimator is
not decided here but by comparing their answers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import heads
from mlaas.modelserver.formats.base import Uncompiled
from mlaas.modelserver.formats.program_arrays import Arrays, class_document
from mlaas.modelserver.formats.sklearn_columns import Layout
from mlaas.modelserver.formats.sklearn_model import FittedModel
from mlaas.modelserver.formats.sklearn_steps import step_of
from mlaas.modelserver.formats.sklearn_trees import forest, is_tree


class ScikitLearnModel(FittedModel):
    """With its compiled form."""

    def compile(self, target: Path) -> dict[str, Any]:
        return export(self, target)


def export(opened: FittedModel, target: Path) -> dict[str, Any]:
    """The program of an estimator or pipeline; its arrays are written to `target`. Raises Uncompiled."""
    arrays = Arrays()
    steps, final = _split(opened.model)
    prepared = together([document for step in steps for document in step_of(step, arrays)], opened.layout)
    head = _head(final, opened, arrays, target)
    if head["op"] == "linear":
        prepared = _fold(prepared, head, arrays)
    arrays.write(target)
    return {"kind": "program", "steps": prepared, "head": head, "missing": _takes_missing(opened)}


def together(steps: list[dict[str, Any]], layout: Layout) -> list[dict[str, Any]]:
    """Steps for rows that come as columns: where the first one does not pick its own, they are put side by side before."""
    if layout.kind == "columns" and (not steps or steps[0]["op"] != "parts"):
        return [{"op": "parts", "parts": [{"columns": list(range(len(layout.names))), "steps": []}]}, *steps]
    return steps


def _split(model: Any) -> tuple[list[Any], Any]:
    """The steps before the final estimator, and that; None for a pipeline of transformers only."""
    if hasattr(model, "steps"):
        before = [step for _, step in model.steps[:-1] if step is not None and step != "passthrough"]
        inner, final = _split(model.steps[-1][1])
        return before + inner, final
    if hasattr(model, "predict"):
        return [], model
    return [model], None


def _head(final: Any, opened: FittedModel, arrays: Arrays, target: Path) -> dict[str, Any]:
    if final is None or isinstance(final, str):
        return {"op": "matrix", "outputs": _wanted({"transform": {"form": "all"}}, opened)}
    if not type(final).__module__.startswith("sklearn."):
        raise Uncompiled(f"{type(final).__name__} is no estimator of scikit-learn itself")
    if is_tree(final):
        labels = None if opened.classes is None else class_document(opened.classes, arrays)
        head, trees = forest(final, labels, arrays, target)
        if final is opened.model:
            opened.trees = trees
        return {**head, "outputs": _wanted(head["outputs"], opened)}
    coef = getattr(final, "coef_", None)
    if isinstance(coef, np.ndarray) and type(final).__module__.startswith(_LINEAR):
        return _linear(final, opened, arrays)
    raise Uncompiled(f"there is no compiled form of {type(final).__name__}")


_LINEAR = ("sklearn.linear_model.", "sklearn.svm._classes", "sklearn.discriminant_analysis")


def _linear(final: Any, opened: FittedModel, arrays: Arrays) -> dict[str, Any]:
    coef = np.asarray(final.coef_, dtype=np.float64)
    if type(final).__module__ == "sklearn.svm._classes" and not type(final).__name__.startswith("Linear"):
        raise Uncompiled(f"there is no compiled form of {type(final).__name__}")
    if coef.ndim == 1:
        coef = coef[np.newaxis]
    intercept = np.broadcast_to(np.asarray(final.intercept_, dtype=np.float64), len(coef))
    outputs: dict[str, Any] = {}
    roles = set(opened.roles.values())
    if opened.classes is None:
        outputs["predict"] = {"form": _regression_form(final, coef, intercept)}
    else:
        labels = class_document(opened.classes, arrays)
        if len(coef) == 1:
            outputs["predict"] = {"form": "above", "classes": labels}
            outputs["decision"] = {"form": "first"}
        else:
            outputs["predict"] = {"form": "largest", "classes": labels}
            outputs["decision"] = {"form": "all"}
        if "probabilities" in roles:
            outputs["probabilities"] = {"form": _probability_form(final, coef, intercept)}
    return {
        "op": "linear",
        "weights": arrays.add(coef.T),
        "intercept": arrays.add(intercept),
        "outputs": _wanted(outputs, opened),
    }


def _wanted(outputs: dict[str, Any], opened: FittedModel) -> dict[str, Any]:
    """Those of the signature. Raises Uncompiled for one that the head does not give."""
    found = {}
    for spec in opened.signature.outputs:
        role = opened.roles[spec.name]
        if role not in outputs:
            raise Uncompiled(f"there is no compiled form of its output '{spec.name}'")
        found[spec.name] = outputs[role]
    return found


def _regression_form(final: Any, coef: NDArray[Any], intercept: NDArray[Any]) -> str:
    if len(coef) > 1:
        return "all"
    return _form(final.predict, ("first", "exp", "sigmoid-first"), coef, intercept, final)


def _probability_form(final: Any, coef: NDArray[Any], intercept: NDArray[Any]) -> str:
    names = ("sigmoid",) if len(coef) == 1 else ("softmax", "independent")
    return _form(final.predict_proba, names, coef, intercept, final)


def _form(
    method: Callable[[Any], Any], names: tuple[str, ...], coef: NDArray[Any], intercept: NDArray[Any], final: Any
) -> str:
    """Which of these forms the estimator makes of its scores: found by trying, as it differs by class and parameters."""
    spread = np.abs(coef).sum(axis=1).max() or 1.0
    rows = np.random.default_rng(4).normal(size=(16, coef.shape[1])) * 3 / spread
    wanted = method(rows)
    for name in names:
        with np.errstate(over="ignore"):
            if np.allclose(heads.FORMS[name](rows @ coef.T + intercept), wanted, rtol=1e-9, atol=1e-12):
                return name
    raise Uncompiled(f"{type(final).__name__} makes its answers in a way that has no compiled form")


def _fold(steps: list[dict[str, Any]], head: dict[str, Any], arrays: Arrays) -> list[dict[str, Any]]:
    """Scalers right before a linear head become part of its weights: one multiplication a request."""
    while steps and steps[-1]["op"] == "scale" and steps[-1].get("clip") is None:
        step = steps.pop()
        weights, intercept = arrays.held[head["weights"]], arrays.held[head["intercept"]]
        values = {name: arrays.held.pop(step[name]) for name in ("mean", "scale", "factor", "shift") if step.get(name)}
        if "shift" in values:
            intercept = intercept + values["shift"] @ weights
        if "factor" in values:
            weights = weights * values["factor"][:, np.newaxis]
        if "scale" in values:
            weights = weights / values["scale"][:, np.newaxis]
        if "mean" in values:
            intercept = intercept - values["mean"] @ weights
        arrays.held[head["weights"]] = np.ascontiguousarray(weights)
        arrays.held[head["intercept"]] = intercept
    return steps


def _takes_missing(opened: FittedModel) -> bool | list[int]:
    """Whether the model takes NaN; the places of the columns where only some may have it. A model that imputes is tried; of
    others the tag says so that scikit-learn's estimators carry."""
    import sklearn.utils

    if _imputes(opened.model):
        return _tried(opened)
    try:
        return bool(sklearn.utils.get_tags(opened.model).input_tags.allow_nan)
    except (AttributeError, TypeError, ValueError):
        return False


def _imputes(model: Any) -> bool:
    inner = [each[1] for name in ("steps", "transformers_", "transformer_list") for each in getattr(model, name, ())]
    return "Imputer" in type(model).__name__ or any(_imputes(each) for each in inner)


def _tried(opened: FittedModel) -> list[int]:
    rows = opened.sample() or []
    places = []
    whole = len(rows) == 1
    for place in range(rows[0].shape[1] if whole else len(rows)):
        given = [array[:1].copy() for array in rows]
        array = given[0] if whole else given[place]
        if array.dtype.kind != "f":
            continue
        array[0, place if whole else 0] = np.nan
        try:
            opened.predict(given, [opened.signature.outputs[0].name])
        except Invalid:
            continue
        places.append(place)
    return places
