"""LightGBM models as `Booster.save_model` writes them: a text file that begins with `tree`."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format, Opened, Original, Uncompiled
from mlaas.modelserver.formats.booster import BoosterModel
from mlaas.modelserver.formats.folder import head, model_file
from mlaas.modelserver.formats.trees import LEQ, Trees

_NAMES = ("model.txt", "model.bst", "model.lgb", "model.model")
_SUFFIXES = (".txt", ".bst", ".lgb", ".model")


class LightGBM(Format):
    name = "lightgbm"
    packages = ("lightgbm",)
    files = "model.txt or model.bst"

    def detects(self, root: Path) -> bool:
        return _file(root) is not None

    def open(self, opened: Opened) -> Original:
        file = _file(opened.root)
        if file is None:
            raise Invalid(f"{opened.root.name} holds no LightGBM model such as model.txt.", field="source")
        lightgbm = import_module("lightgbm")
        try:
            booster = lightgbm.Booster(model_file=str(file))
        except lightgbm.basic.LightGBMError as error:
            raise Invalid(
                f"{file.name} cannot be read by LightGBM {lightgbm.__version__}: {str(error)[:300]}",
                field="source",
                hint="Save it again with `Booster.save_model('model.txt')`.",
            ) from error
        return LightGBMModel(booster, opened)


def _file(root: Path) -> Path | None:
    """The model file, told from other texts and from XGBoost's `.bst` by how it begins."""
    for name in _NAMES:
        try:
            file = model_file(root, (name,), _SUFFIXES if root.is_file() else (Path(name).suffix,))
        except Invalid:
            continue  # several texts, none of which is called as a model is
        if file is not None and head(file, 5).rstrip() == b"tree":
            return file
    return None


class LightGBMModel(BoosterModel):
    platform = "lightgbm"
    number = "FP64"

    def __init__(self, booster: Any, opened: Opened) -> None:
        self.booster = booster
        self._document = booster.dump_model()
        words = self._document.get("objective", "").split()
        self._objective = words[0] if words else ""
        self._options = dict(word.split(":", 1) for word in words[1:] if ":" in word)
        self._flags = {word for word in words[1:] if ":" not in word}
        names = [str(name) for name in self._document["feature_names"]]
        made_up_names = all(name == f"Column_{at}" for at, name in enumerate(names))
        self._scores = int(self._document["num_tree_per_iteration"])
        super().__init__(opened, booster.num_feature(), self._scores, [] if made_up_names else names, None)

    def _raw(self, matrix: NDArray[Any]) -> Any:
        return self.booster.predict(np.asarray(matrix, np.float64), num_threads=1)

    def _export(self, trees: Trees, arrays: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        trees.mode = LEQ
        if self._document.get("pandas_categorical"):
            raise Uncompiled("LightGBM's splits on categories have no compiled form")
        for tree in self._document["tree_info"]:
            _add(trees, tree["tree_structure"])
        rounds = len(self._document["tree_info"]) // max(self._scores, 1)
        divisor = rounds if self._document["average_output"] else 1
        forms: dict[str, Any] = {"predict": {**self._form(), "divisor": divisor}}
        if self.classes is not None:
            if self._scores > 1:
                forms["probabilities"] = forms["predict"]
            else:
                forms["probabilities"] = {**forms["predict"], "form": "sigmoid"}
        return {"groups": self._scores, "single": False, "float32": False}, forms

    def _form(self) -> dict[str, Any]:
        """How LightGBM turns sums into answers (its `objective_function.h`, ConvertOutput)."""
        if self._objective in ("binary", "cross_entropy", "xentropy"):
            return {"form": "sigmoid-first", "factor": float(self._options.get("sigmoid", 1.0))}
        if self._objective == "multiclass":
            return {"form": "softmax"}
        if self._objective == "multiclassova":
            return {"form": "sigmoid-all", "factor": float(self._options.get("sigmoid", 1.0))}
        if self._objective in ("poisson", "gamma", "tweedie"):
            return {"form": "exp"}
        if "sqrt" in self._flags:
            return {"form": "signed-square"}
        known = (
            "",
            "regression",
            "regression_l1",
            "huber",
            "fair",
            "quantile",
            "mape",
            "lambdarank",
            "rank_xendcg",
            "custom",
        )
        if self._objective in known:
            return {"form": "first" if self._scores == 1 else "all"}
        raise Uncompiled(f"LightGBM's objective {self._objective} has no compiled form")


def _add(trees: Trees, root: dict[str, Any]) -> None:
    """One tree of a dumped model, its nodes in a list with parents before children."""
    nodes = [root]
    left, right = [], []
    for node in nodes:
        if "split_index" not in node:
            left.append(-1)
            right.append(-1)
            continue
        left.append(len(nodes))
        right.append(len(nodes) + 1)
        nodes += [node["left_child"], node["right_child"]]
    if any("leaf_coeff" in node or "leaf_const" in node for node in nodes):
        raise Uncompiled("LightGBM's linear trees have no compiled form")
    trees.add(
        np.array([node.get("split_feature", 0) for node in nodes]),
        np.array([float(node["threshold"]) if "split_index" in node and _plain(node) else 0.0 for node in nodes]),
        np.array(left),
        np.array(right),
        np.array([float(node.get("leaf_value", 0.0)) for node in nodes]),
        np.array(["split_index" in node and _missing_left(node) for node in nodes]),
    )


def _plain(node: dict[str, Any]) -> bool:
    if node["decision_type"] != "<=":
        raise Uncompiled("LightGBM's splits on categories have no compiled form")
    return True


def _missing_left(node: dict[str, Any]) -> bool:
    """Where NaN goes (`Tree::NumericalDecision`): to the default side where the split knows missing values, else as 0 does."""
    left = float(node["threshold"]) >= 0
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    if node["missing_type"] == "Zero" and bool(node["default_left"]) != left:
        raise Uncompiled("LightGBM's `zero_as_missing` has no compiled form where 0 goes against the threshold")
    return left


FORMAT = LightGBM()
