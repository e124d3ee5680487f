"""XGBoost models as its `save_model` writes them: UBJSON or JSON.

The binary format of before version 2.1 cannot be read any more; what is to be done is said.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format, Opened, Original, Uncompiled
from mlaas.modelserver.formats.booster import BoosterModel
from mlaas.modelserver.formats.folder import has_file, head, model_file
from mlaas.modelserver.formats.trees import LT, Trees

_NAMES = ("model.ubj", "model.json", "model.bst", "model.model", "model.xgb")
_SUFFIXES = (".ubj", ".json", ".bst", ".model", ".xgb")
_LINKS = {
    "binary:logistic": "sigmoid-first", "reg:logistic": "sigmoid-first", "binary:logitraw": "first",
    "reg:squarederror": "first", "reg:squaredlogerror": "first", "reg:absoluteerror": "first",
    "reg:pseudohubererror": "first", "reg:quantileerror": "first", "rank:ndcg": "first", "rank:map": "first",
    "rank:pairwise": "first", "count:poisson": "exp", "reg:gamma": "exp", "reg:tweedie": "exp", "survival:cox": "exp",
    "multi:softprob": "softmax",
}  # fmt: skip


class XGBoost(Format):
    name = "xgboost"
    packages = ("xgboost",)
    files = "model.ubj, model.json or model.bst"

    def detects(self, root: Path) -> bool:
        file = _file(root)
        return file is not None

    def open(self, opened: Opened) -> Original:
        file = _file(opened.root)
        if file is None:
            raise Invalid(f"{opened.root.name} holds no XGBoost model such as {', '.join(_NAMES[:3])}.", field="source")
        xgboost = import_module("xgboost")
        start = head(file)
        if start[:4] in (b"binf", b"bs64") or not start.lstrip().startswith(b"{"):
            raise Invalid(
                f"{file.name} is in XGBoost's old binary format, which version {xgboost.__version__} does not read.",
                field="source",
                hint="Save it again: with xgboost<3.1 `Booster(model_file=...).save_model('model.ubj')`.",
            )
        booster = xgboost.Booster()
        try:
            booster.load_model(bytearray(file.read_bytes()))
        except Exception as error:
            raise Invalid(
                f"{file.name} cannot be read by XGBoost {xgboost.__version__}: {str(error).splitlines()[-1][:300]}",
                field="source",
                hint="Save it with `Booster.save_model('model.ubj')` of this version or an older one.",
            ) from error
        return XGBoostModel(booster, opened)


def _file(root: Path) -> Path | None:
    """The model file, told from other JSON and from LightGBM's `.bst` by how it begins."""
    names = [name for name in _NAMES if root.is_file() or _any(root, name)]
    for name in names or _NAMES:
        if has_file(root, (name,), (Path(name).suffix,) if Path(name).suffix != ".json" else ()) or root.is_file():
            file = model_file(root, (name,), _SUFFIXES if root.is_file() else (Path(name).suffix,))
            if file is not None and _is_xgboost(file):
                return file
    return None


def _any(root: Path, name: str) -> bool:
    return has_file(root, (name,), ())


def _is_xgboost(file: Path) -> bool:
    start = head(file, 4096)
    if file.suffix == ".json":
        return b'"learner"' in start
    return start[:4] in (b"binf", b"bs64") or (start[:1] == b"{" and b"learner" in start)


class XGBoostModel(BoosterModel):
    platform = "xgboost"
    number = "FP32"

    def __init__(self, booster: Any, opened: Opened) -> None:
        self._xgboost = import_module("xgboost")
        self.booster = booster
        self._document = json.loads(bytes(booster.save_raw("json")))
        learner = self._document["learner"]
        self._objective = learner["objective"]["name"]
        classes = int(learner["learner_model_param"]["num_class"])
        targets = int(learner["learner_model_param"].get("num_target", 1))
        said = json.loads(learner["attributes"].get("scikit_learn") or "{}")
        classifier = said.get("_estimator_type") == "classifier"
        softmax = self._objective == "multi:softmax"
        if classifier and softmax:  # asked for probabilities all the same, as XGBClassifier does
            booster.set_param({"objective": "multi:softprob"})
            self._objective, softmax = "multi:softprob", False
        stopped = learner["attributes"].get("best_iteration") if classifier or said else None
        self._rounds = 0 if stopped is None else int(stopped) + 1
        scores = 1 if softmax else max(classes, targets, 1)
        own = np.arange(max(classes, 2)) if classifier else None
        names = booster.feature_names or []
        super().__init__(opened, int(booster.num_features()), scores, list(names), own)

    def _raw(self, matrix: NDArray[Any]) -> Any:
        data = self._xgboost.DMatrix(
            np.asarray(matrix, np.float32),
            feature_names=self.booster.feature_names,
            feature_types=self.booster.feature_types,
        )
        try:
            return self.booster.predict(data, iteration_range=(0, self._rounds))
        except self._xgboost.core.XGBoostError as error:
            raise Invalid(f"The model refuses the rows: {str(error).splitlines()[0][:300]}", field="inputs") from None

    def _export(self, trees: Trees, arrays: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        learner = self._document["learner"]
        booster = learner["gradient_booster"]
        if booster["name"] == "dart":
            weights = booster["weight_drop"]
            model = booster["gbtree"]["model"]
        elif booster["name"] == "gbtree":
            model, weights = booster["model"], None
        else:
            raise Uncompiled(f"XGBoost's {booster['name']} has no compiled form")
        trees.mode = LT
        count = len(model["trees"])
        if self._rounds:
            count = model["iteration_indptr"][self._rounds]
        groups = max(model["tree_info"][:count], default=0) + 1
        for at in _in_turn(model["tree_info"][:count], groups):
            _add(trees, model["trees"][at], 1.0 if weights is None else float(weights[at]))
        base = self._base(learner, trees, groups)
        forms: dict[str, Any] = {}
        if self._objective == "multi:softmax":
            classes = arrays.add(np.arange(groups, dtype=np.float32))
            forms["predict"] = {"form": "largest", "classes": classes}
        elif self._objective == "binary:hinge":
            forms["predict"] = {"form": "above", "classes": arrays.add(np.array([0, 1], np.float32))}
        elif self._objective in _LINKS:
            form = _LINKS[self._objective]
            forms["predict"] = {"form": "all" if groups > 1 and form == "first" else form}
        else:
            raise Uncompiled(f"XGBoost's objective {self._objective} has no compiled form")
        if self.classes is not None:
            forms["probabilities"] = {"form": "softmax" if groups > 1 else "sigmoid"}
        return {"groups": groups, "base": arrays.add(base), "single": True, "float32": True}, forms

    def _base(self, learner: dict[str, Any], trees: Trees, groups: int) -> NDArray[Any]:
        """What the sums start from. The file holds it before or after the link, by version: the one that the booster's own
        margins confirm is taken."""
        text = learner["learner_model_param"]["base_score"].strip("[]")
        given = np.array([float(part) for part in text.split(",")], np.float32)
        given = np.broadcast_to(given, groups).astype(np.float32)
        row = np.zeros((1, self.width), np.float32)
        data = self._xgboost.DMatrix(
            row, feature_names=self.booster.feature_names, feature_types=self.booster.feature_types
        )
        margin = self.booster.predict(data, output_margin=True, iteration_range=(0, self._rounds)).reshape(-1)
        sums = trees.walk(row[0], groups)
        candidates = [given]
        with np.errstate(divide="ignore", invalid="ignore"):
            candidates += [-np.log(1 / given - 1), np.log(given)]
        distances = [np.abs(sums + base - margin).max() for base in candidates]
        best = int(np.nanargmin(np.where(np.isnan(distances), np.inf, distances)))
        return np.asarray(candidates[best], np.float32)


def _in_turn(info: list[int], groups: int) -> list[int]:
    """The trees so that the scores take turns; the order of each score's own trees stays."""
    by_group: list[list[int]] = [[at for at, group in enumerate(info) if group == each] for each in range(groups)]
    if len({len(each) for each in by_group}) != 1:
        raise Uncompiled("its scores have different numbers of trees")
    return [at for turn in zip(*by_group, strict=True) for at in turn]


def _add(trees: Trees, tree: dict[str, Any], weight: float) -> None:
    if any(tree.get("split_type") or ()):
        raise Uncompiled("XGBoost's splits on categories have no compiled form")
    if int(tree["tree_param"].get("size_leaf_vector") or 1) > 1:
        raise Uncompiled("XGBoost's trees with several targets have no compiled form")
    conditions = np.array(tree["split_conditions"], np.float32)
    trees.add(
        np.array(tree["split_indices"]),
        conditions,
        np.array(tree["left_children"]),
        np.array(tree["right_children"]),
        conditions * np.float32(weight),
        np.array(tree["default_left"]),
    )


FORMAT = XGBoost()
