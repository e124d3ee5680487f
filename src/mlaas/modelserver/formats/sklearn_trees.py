"""Trees and forests of scikit-learn, as an ensemble and what is made of its sums."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.formats.base import Uncompiled
from mlaas.modelserver.formats.program_arrays import Arrays
from mlaas.modelserver.formats.trees import LEQ, Trees

FLOAT32 = frozenset(
    {
        "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
        "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
        "GradientBoostingClassifier", "GradientBoostingRegressor", "IsolationForest",
    }
)  # fmt: skip
"""Estimators that take their rows as float32 (`sklearn.tree._tree.DTYPE`) and compare them with float64 thresholds."""


def works_in_float32(model: Any) -> bool:
    """Whether an estimator of scikit-learn itself turns its rows into float32 first."""
    return type(model).__module__.startswith("sklearn.") and type(model).__name__ in FLOAT32


def is_tree(model: Any) -> bool:
    return type(model).__name__ in _KINDS


def forest(model: Any, labels: Any, arrays: Arrays, target: Path) -> tuple[dict[str, Any], Trees]:
    """The head of a tree or an ensemble; its graph is written to `target`. `labels`: the classes as the document has them.

    Raises Uncompiled for what has no compiled form.
    """
    trees = Trees(LEQ)
    head = _KINDS[type(model).__name__](model, labels, arrays, trees)
    if not trees.roots:
        raise Uncompiled("it has no trees")
    trees.write(target, model.n_features_in_)
    return {"op": "forest", "single": False, "float32": works_in_float32(model), **head}, trees


def _mean(model: Any, labels: Any, arrays: Arrays, trees: Trees) -> dict[str, Any]:
    """A tree, or a forest: the mean of what the leaves hold."""
    estimators = getattr(model, "estimators_", [model])
    values = [_tree(trees, estimator.tree_, None) for estimator in estimators]
    held = np.concatenate(values)
    outputs = model.n_outputs_
    divisor = len(estimators)
    if labels is None:
        form = "all" if outputs > 1 else "first"
        return {
            "groups": outputs,
            "values": arrays.add(held.reshape(len(held), outputs)),
            "outputs": {"predict": {"form": form, "divisor": divisor}},
        }
    if outputs > 1:
        raise Uncompiled("a classifier of several outputs has no compiled form")
    return {
        "groups": model.n_classes_,
        "values": arrays.add(held.reshape(len(held), -1)),
        "outputs": {
            "predict": {"form": "largest", "classes": labels},
            "probabilities": {"form": "all", "divisor": divisor},
        },
    }


def _tree(trees: Trees, tree: Any, value: NDArray[Any] | None, features: NDArray[Any] | None = None) -> NDArray[Any]:
    """Add one; what its leaves hold [leaves, outputs, classes]."""
    names = tree.feature if features is None else np.where(tree.feature >= 0, features[tree.feature], 0)
    missing = getattr(tree, "missing_go_to_left", None)
    leaves = trees.add(names, tree.threshold, tree.children_left, tree.children_right, value, missing)
    held: NDArray[Any] = tree.value[leaves]
    return held


def _gradient_boosting(model: Any, labels: Any, arrays: Arrays, trees: Trees) -> dict[str, Any]:
    if model.init_ != "zero" and type(model.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        raise Uncompiled("boosting that starts from another estimator has no compiled form")
    groups = model.estimators_.shape[1]
    for stage in model.estimators_:
        for estimator in stage:
            _tree(trees, estimator.tree_, estimator.tree_.value[:, 0, 0] * model.learning_rate)
    start = np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32)), np.float64)
    head = {"groups": groups, "base": arrays.add(start.reshape(-1))}
    if labels is None:
        return {**head, "outputs": {"predict": {"form": "first"}}}
    if groups > 1:
        outputs = {
            "predict": {"form": "largest", "classes": labels},
            "probabilities": {"form": "softmax"},
            "decision": {"form": "all"},
        }
    else:
        outputs = {
            "predict": {"form": "above", "classes": labels, "inclusive": True},
            "probabilities": {"form": "sigmoid", "factor": 2.0 if model.loss == "exponential" else 1.0},
            "decision": {"form": "first"},
        }
    return {**head, "outputs": outputs}


def _histogram_boosting(model: Any, labels: Any, arrays: Arrays, trees: Trees) -> dict[str, Any]:
    for stage in model._predictors:
        for predictor in stage:
            nodes = predictor.nodes
            inner = nodes["is_leaf"] == 0
            if nodes["is_categorical"][inner].any():
                raise Uncompiled("histogram boosting on categories has no compiled form")
            trees.add(
                nodes["feature_idx"].astype(np.int64),
                nodes["num_threshold"],
                nodes["left"].astype(np.int64),
                nodes["right"].astype(np.int64),
                nodes["value"],
                nodes["missing_go_to_left"],
                inner=inner,
            )
    groups = model.n_trees_per_iteration_
    head = {"groups": groups, "base": arrays.add(np.asarray(model._baseline_prediction, np.float64).reshape(-1))}
    if labels is None:
        link = type(model._loss.link).__name__
        form = {"IdentityLink": "first", "LogLink": "exp"}.get(link)
        if form is None:
            raise Uncompiled(f"histogram boosting with a {link} has no compiled form")
        return {**head, "outputs": {"predict": {"form": form}}}
    if groups > 1:
        return {
            **head,
            "outputs": {
                "predict": {"form": "likeliest", "of": "softmax", "classes": labels},
                "probabilities": {"form": "softmax"},
                "decision": {"form": "all"},
            },
        }
    return {
        **head,
        "outputs": {
            "predict": {"form": "likeliest", "of": "sigmoid", "classes": labels},
            "probabilities": {"form": "sigmoid"},
            "decision": {"form": "first"},
        },
    }


def _isolation(model: Any, labels: Any, arrays: Arrays, trees: Trees) -> dict[str, Any]:
    """Liu, Ting, Zhou (2008): `2 ** -(mean path length / c(samples))`; scikit-learn's score is its negative."""
    from sklearn.ensemble._iforest import _average_path_length

    for estimator, features, depth, left in zip(
        model.estimators_,
        model.estimators_features_,
        model._decision_path_lengths,
        model._average_path_length_per_tree,
        strict=True,
    ):
        _tree(trees, estimator.tree_, depth + left - 1.0, np.asarray(features))
    scale = float(len(model.estimators_) * _average_path_length([model.max_samples_])[0])
    isolation = {"scale": scale, "offset": float(model.offset_)}
    return {
        "groups": 1,
        "outputs": {
            "predict": {"form": "isolation", "gives": "label", **isolation},
            "decision": {"form": "isolation", "gives": "decision", **isolation},
            "score": {"form": "isolation", "gives": "score", **isolation},
        },
    }


_KINDS: dict[str, Callable[[Any, Any, Arrays, Trees], dict[str, Any]]] = {
    **dict.fromkeys(
        (
            "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
            "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
        ),
        _mean,
    ),
    "GradientBoostingClassifier": _gradient_boosting,
    "GradientBoostingRegressor": _gradient_boosting,
    "HistGradientBoostingClassifier": _histogram_boosting,
    "HistGradientBoostingRegressor": _histogram_boosting,
    "IsolationForest": _isolation,
}  # fmt: skip
