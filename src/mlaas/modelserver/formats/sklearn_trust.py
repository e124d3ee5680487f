"""Which types in a skops file are opened for anybody, beyond those that skops itself knows.

They are parts of scikit-learn's own estimators that hold numbers only. Trees among them are compiled code that follows the node
numbers it is given without looking, so these are looked at before the first row is.
"""

import re
from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid

_HARMLESS = re.compile(
    r"""
    sklearn\.tree\._tree\.Tree
    | sklearn\.ensemble\._hist_gradient_boosting\.(predictor\.TreePredictor | binning\._BinMapper)
    | sklearn\._loss\.(loss | link | _loss)\.[A-Z]\w+
    | sklearn\.linear_model\._sgd_fast\.[A-Z]\w+
    | sklearn\.metrics\._dist_metrics\.[A-Z]\w+
    | sklearn\.neighbors\.(_kd_tree\.KDTree | _ball_tree\.BallTree)(64 | 32)?
    | sklearn\.neural_network\._stochastic_optimizers\.\w+Optimizer
    | sklearn\.gaussian_process\.kernels\.[A-Z]\w+
    | sklearn\.gaussian_process\._gpc\._BinaryGaussianProcessClassifierLaplace
    | sklearn\.calibration\._(CalibratedClassifier | SigmoidCalibration)
    | sklearn\.feature_selection\._univariate_selection\.(f_classif | f_regression | chi2 | r_regression)
    | sklearn\.cluster\._bisect_k_means\._BisectingTree
    | scipy\.sparse\._cs[rc]\.cs[rc]_(matrix | array)
    | numpy\.(dtype | mean)
    """,
    re.VERBOSE,
)


def harmless(name: str) -> bool:
    """Whether a type that skops does not know may be opened."""
    return _HARMLESS.fullmatch(name) is not None


def check_trees(model: Any) -> None:
    """Raises Invalid for a tree in an estimator whose nodes or columns lead out of its arrays."""
    pending, seen = [model], set()
    while pending:
        here = pending.pop()
        if id(here) in seen or isinstance(here, str | bytes | int | float | type):
            continue
        seen.add(id(here))
        name = type(here).__name__
        if type(here).__module__ == "sklearn.tree._tree" and name == "Tree":
            nodes = {"left": here.children_left, "right": here.children_right, "feature": here.feature}
            _check(nodes, nodes["left"] != -1, here.node_count, here.n_features)
        elif name == "TreePredictor":
            nodes = {"left": here.nodes["left"], "right": here.nodes["right"], "feature": here.nodes["feature_idx"]}
            categories = here.nodes["bitset_idx"][here.nodes["is_categorical"] != 0]
            if len(categories) and int(categories.max()) >= len(here.raw_left_cat_bitsets):
                raise _broken()
            _check(nodes, here.nodes["is_leaf"] == 0, len(here.nodes), 1 << 31)
        elif hasattr(here, "get_arrays") and hasattr(here, "query"):
            data, index, _, _ = here.get_arrays()
            if len(index) and (int(np.min(index)) < 0 or int(np.max(index)) >= len(data)):
                raise _broken()
        elif isinstance(here, np.ndarray):
            if here.dtype == object:
                pending.extend(here.reshape(-1).tolist())
        elif isinstance(here, dict):
            pending.extend(here.values())
        elif isinstance(here, list | tuple | set):
            pending.extend(here)
        else:
            pending.extend(getattr(here, "__dict__", {}).values())


def _check(nodes: dict[str, Any], inner: Any, count: int, width: int) -> None:
    """Children come after their parents, so that no walk goes in a circle."""
    places = np.flatnonzero(inner)
    for side in ("left", "right"):
        children = nodes[side][places].astype(np.int64)
        if (children <= places).any() or (children >= count).any():
            raise _broken()
    features = nodes["feature"][places].astype(np.int64)
    if (features < 0).any() or (features >= width).any():
        raise _broken()


def _broken() -> Invalid:
    return Invalid(
        "A tree in the model is broken: its nodes lead out of it.",
        field="source",
        hint="Save the model again from the fitted estimator.",
    )
