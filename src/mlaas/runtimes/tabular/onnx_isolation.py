"""An isolation forest as one tree ensemble of ONNX: skl2onnx writes thousands of nodes for it, which are slow to make and to
run.

The score of a row is -2^(-d / (trees * c(samples))), with d the sum over trees of the depth of the row's leaf and c(rows in
it), c(n) the mean path length of an unsuccessful search in a binary tree of n (Liu, Ting, Zhou: "Isolation Forest", 2008,
equations 1 and 2). The decision function is the score less the offset; below 0 is an outlier.
"""

from typing import Any

import numpy as np

from mlaas.runtimes.tabular.onnx_model import OPSET
from mlaas.runtimes.tabular.table import Array

_LEAF = -1
_EULER = float(np.euler_gamma)


def of_isolation_forest(forest: Any) -> Any:
    """The fitted `sklearn.ensemble.IsolationForest` as `onnx.ModelProto`: a matrix in; labels (1, -1) and decision out."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any, kind: Any = np.float32) -> Any:
        return numpy_helper.from_array(np.asarray(value, dtype=kind), name)

    scale = len(forest.estimators_) * mean_path(np.array([forest._max_samples]))[0]
    nodes = [
        helper.make_node("TreeEnsembleRegressor", ["x"], ["depth"], domain="ai.onnx.ml", **_ensemble(forest)),
        helper.make_node("Mul", ["depth", "rate"], ["exponent"]),
        helper.make_node("Pow", ["two", "exponent"], ["power"]),
        helper.make_node("Neg", ["power"], ["score"]),
        helper.make_node("Sub", ["score", "offset"], ["decision"]),
        helper.make_node("Less", ["decision", "zero"], ["is-outlier"]),
        helper.make_node("Where", ["is-outlier", "outlier", "inlier"], ["label"]),
    ]
    weights = [
        constant("rate", [-1.0 / scale]), constant("two", [2.0]), constant("zero", [0.0]), constant("offset", [forest.offset_]),
        constant("outlier", [-1], np.int64), constant("inlier", [1], np.int64),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "isolation-forest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, int(forest.n_features_in_)])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1]),
            helper.make_tensor_value_info("decision", TensorProto.FLOAT, [None, 1]),
        ],
        weights,
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, producer_name="mlaas", ir_version=9)


def mean_path(rows: Array) -> Array:
    """c(n): 2 (ln(n - 1) + gamma) - 2 (n - 1) / n for n > 2; 1 for 2; 0 for 1."""
    n = rows.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        usual = 2 * (np.log(n - 1) + _EULER) - 2 * (n - 1) / n
    made: Array = np.where(n > 2, usual, np.where(n == 2, 1.0, 0.0))
    return made


def _ensemble(forest: Any) -> dict[str, Any]:
    """The attributes of TreeEnsembleRegressor: all nodes of all trees; the weight of a leaf is its depth and c(its rows)."""
    columns: dict[str, list[Any]] = {}

    def add(name: str, values: Any) -> None:
        columns.setdefault(name, []).extend(np.asarray(values).tolist())

    for number, (estimator, chosen) in enumerate(zip(forest.estimators_, forest.estimators_features_, strict=True)):
        tree = estimator.tree_
        count = tree.node_count
        leaf = tree.children_left == _LEAF
        add("nodes_treeids", np.full(count, number))
        add("nodes_nodeids", np.arange(count))
        add("nodes_featureids", np.where(leaf, 0, np.asarray(chosen)[np.maximum(tree.feature, 0)]))
        add("nodes_values", np.where(leaf, 0.0, _not_above(tree.threshold)))
        columns.setdefault("nodes_modes", []).extend("LEAF" if end else "BRANCH_LEQ" for end in leaf.tolist())
        add("nodes_truenodeids", np.where(leaf, 0, tree.children_left))
        add("nodes_falsenodeids", np.where(leaf, 0, tree.children_right))
        add("nodes_missing_value_tracks_true", np.where(leaf, 0, tree.missing_go_to_left).astype(int))
        ends = np.flatnonzero(leaf)
        add("target_treeids", np.full(len(ends), number))
        add("target_nodeids", ends)
        add("target_ids", np.zeros(len(ends), dtype=int))
        add("target_weights", _depths(tree)[ends] + mean_path(tree.n_node_samples[ends]))
    return {**columns, "n_targets": 1, "aggregate_function": "SUM"}


def _not_above(thresholds: Array) -> Array:
    """The largest float32 that is not above each threshold: x <= threshold is then the same for every float32 x."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _depths(tree: Any) -> Array:
    """Edges from the root to each node; a parent comes before its children."""
    depths = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child != _LEAF:
                depths[child] = depths[node] + 1
    return depths
