"""Ensembles of decision trees of any library, as arrays, and the ONNX graph that they become."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.compiled.forest import GRAPH

LEQ, LT, MEMBER = 0, 1, 6
"""Node modes of ai.onnx.ml 5: the row goes to the true branch when `x <= split`, `x < split`, or x is one of its members."""


@dataclass
class Trees:
    """Nodes of all trees, one after the other. A child is a node's number, or `-1 - leaf`."""

    mode: int = LEQ
    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)  # whether NaN goes to the true branch
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)  # what the graph gives for a leaf
    leaf_trees: list[int] = field(default_factory=list)

    def add(
        self,
        feature: NDArray[Any],
        split: NDArray[Any],
        true: NDArray[Any],
        false: NDArray[Any],
        value: NDArray[Any] | None,
        missing: NDArray[Any] | None = None,
        root: int = 0,
        inner: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """A tree of nodes of which `inner` (default: those with a child) split; `value` is what a leaf gives, None for its
        number in the ensemble. Returns the nodes that are leaves, in the order of their numbers."""
        is_inner = true >= 0 if inner is None else inner
        leaves = np.flatnonzero(~is_inner)
        inners = np.flatnonzero(is_inner)
        number = np.empty(len(is_inner), np.int64)
        number[inners] = len(self.features) + np.arange(len(inners))
        number[leaves] = -1 - (len(self.leaves) + np.arange(len(leaves)))
        tree = len(self.roots)
        first = len(self.leaves)
        self.leaves += value[leaves].tolist() if value is not None else list(range(first, first + len(leaves)))
        self.leaf_trees += [tree] * len(leaves)
        if not len(inners):  # a graph's tree has at least one node
            self.roots.append(len(self.features))
            only = int(number[leaves[0]])
            self._extend([0], [0.0], [only], [only], [False])
            return leaves
        self.roots.append(int(number[root]))
        self._extend(
            feature[inners].tolist(),
            np.asarray(split[inners], np.float64).tolist(),
            number[true[inners]].tolist(),
            number[false[inners]].tolist(),
            [False] * len(inners) if missing is None else missing[inners].astype(bool).tolist(),
        )
        return leaves

    def write(self, target: Path, width: int) -> None:
        """The graph `x [rows, width] -> y [rows, trees]` in `target`."""
        onnx = import_module("onnx")
        make, kinds = onnx.helper, onnx.TensorProto
        attributes: dict[str, Any] = {
            "n_targets": len(self.roots),
            "aggregate_function": 1,
            "post_transform": 0,
            "tree_roots": self.roots,
            "nodes_featureids": self.features,
            "nodes_splits": _tensor(make, kinds.DOUBLE, "splits", self.splits),
            "nodes_modes": _tensor(make, kinds.UINT8, "modes", [self.mode] * len(self.features)),
            "nodes_truenodeids": _ids(self.true),
            "nodes_falsenodeids": _ids(self.false),
            "nodes_trueleafs": [int(child < 0) for child in self.true],
            "nodes_falseleafs": [int(child < 0) for child in self.false],
            "leaf_targetids": self.leaf_trees,
            "leaf_weights": _tensor(make, kinds.DOUBLE, "weights", self.leaves),
        }
        if any(self.missing):
            attributes["nodes_missing_value_tracks_true"] = [int(each) for each in self.missing]
        node = make.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **attributes)
        graph = make.make_graph(
            [node],
            "trees",
            [make.make_tensor_value_info("x", kinds.DOUBLE, [None, width])],
            [make.make_tensor_value_info("y", kinds.DOUBLE, [None, len(self.roots)])],
        )
        opsets = [make.make_opsetid("ai.onnx.ml", 5), make.make_opsetid("", 20)]
        model = make.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="mlaas")
        (target / GRAPH).write_bytes(model.SerializeToString())

    def boundary_rows(self, base: NDArray[Any], dtype: Any, limit: int = 96) -> NDArray[Any]:
        """Rows at thresholds and one step of `dtype` below and above them, where float32 and float64 would disagree: `limit`
        splits taken evenly, the other columns from `base`."""
        chosen = np.unique(np.linspace(0, len(self.splits) - 1, limit).astype(int))
        rows = []
        for place, at in enumerate(chosen):
            split = dtype(self.splits[at])
            if not np.isfinite(split):
                continue
            for value in (split, np.nextafter(split, dtype(-np.inf)), np.nextafter(split, dtype(np.inf))):
                row = base[place % len(base)].astype(dtype)
                row[self.features[at]] = value
                rows.append(row)
        return np.array(rows, dtype=dtype).reshape(-1, base.shape[1])

    def walk(self, row: NDArray[Any], groups: int) -> NDArray[Any]:
        """The sums of one row by walking the trees in float64: [groups]."""
        sums = np.zeros(groups)
        for tree, root in enumerate(self.roots):
            node = root
            while node >= 0:
                value, split = row[self.features[node]], self.splits[node]
                below = value < split if self.mode == LT else value <= split
                true = self.missing[node] if np.isnan(value) else below
                node = self.true[node] if true else self.false[node]
            sums[tree % groups] += self.leaves[-1 - node]
        return sums

    def _extend(
        self,
        feature: Sequence[int],
        split: Sequence[float],
        true: Sequence[int],
        false: Sequence[int],
        missing: Sequence[bool],
    ) -> None:
        self.features += feature
        self.splits += split
        self.true += true
        self.false += false
        self.missing += missing


def _tensor(make: Any, kind: int, name: str, values: Sequence[Any]) -> Any:
    return make.make_tensor(name, kind, [len(values)], values)


def _ids(children: Sequence[int]) -> list[int]:
    """Numbers of nodes, and of leaves from 0."""
    return [child if child >= 0 else -1 - child for child in children]
