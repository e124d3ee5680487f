"""From fitted scikit-learn transformers to the steps of a compiled program."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.formats.base import Uncompiled
from mlaas.modelserver.formats.program_arrays import Arrays
from mlaas.modelserver.formats.sklearn_columns import selected

Document = dict[str, Any]


def step_of(transformer: Any, arrays: Arrays) -> list[Document]:
    """The steps of a transformer. Raises Uncompiled, naming it, when it has none."""
    if transformer is None or (isinstance(transformer, str) and transformer == "passthrough"):
        return []
    name = type(transformer).__name__
    maker = _STEPS.get(name)
    if maker is None and type(transformer).__module__.startswith("sklearn.feature_selection."):
        maker = _select
    if maker is None or not type(transformer).__module__.startswith("sklearn."):
        raise Uncompiled(f"there is no compiled form of {name}")
    return maker(transformer, arrays)


def _scale(arrays: Arrays, clip: Any = None, **values: Any) -> list[Document]:
    given = {name: arrays.add(np.asarray(value, np.float64)) for name, value in values.items() if value is not None}
    return [{"op": "scale", **given, **({"clip": list(clip)} if clip else {})}]


def _standard(step: Any, arrays: Arrays) -> list[Document]:
    return _scale(arrays, mean=step.mean_ if step.with_mean else None, scale=step.scale_ if step.with_std else None)


def _min_max(step: Any, arrays: Arrays) -> list[Document]:
    return _scale(arrays, step.feature_range if step.clip else None, factor=step.scale_, shift=step.min_)


def _max_abs(step: Any, arrays: Arrays) -> list[Document]:
    return _scale(arrays, scale=step.scale_)


def _robust(step: Any, arrays: Arrays) -> list[Document]:
    return _scale(
        arrays, mean=step.center_ if step.with_centering else None, scale=step.scale_ if step.with_scaling else None
    )


def _one_hot(step: Any, arrays: Arrays) -> list[Document]:
    if any(each is not None for each in getattr(step, "infrequent_categories_", None) or ()):
        raise Uncompiled("a OneHotEncoder that joins rare categories has no compiled form")
    dropped = step.drop_idx_ if step.drop_idx_ is not None else [None] * len(step.categories_)
    tables = []
    for known, place in zip(step.categories_, dropped, strict=True):
        table = np.vstack([np.eye(len(known)), np.zeros(len(known))])
        tables.append(table if place is None else np.delete(table, int(place), axis=1))
    return _lookup(step, tables, step.handle_unknown != "error", arrays)


def _ordinal(step: Any, arrays: Arrays) -> list[Document]:
    if any(each is not None for each in getattr(step, "infrequent_categories_", None) or ()):
        raise Uncompiled("an OrdinalEncoder that joins rare categories has no compiled form")
    unknown = step.handle_unknown == "use_encoded_value"
    last = float(step.unknown_value) if unknown else 0.0
    tables = [np.append(np.arange(len(known), dtype=np.float64), last)[:, np.newaxis] for known in step.categories_]
    return _lookup(step, tables, unknown, arrays)


def _target(step: Any, arrays: Arrays) -> list[Document]:
    if step.target_type_ == "multiclass":
        raise Uncompiled("a TargetEncoder of several classes has no compiled form")
    tables = [np.append(each, step.target_mean_)[:, np.newaxis] for each in step.encodings_]
    return _lookup(step, tables, True, arrays)


def _lookup(step: Any, tables: list[NDArray[Any]], unknown: bool, arrays: Arrays) -> list[Document]:
    names = getattr(step, "feature_names_in_", None)
    columns = []
    for place, (known, table) in enumerate(zip(step.categories_, tables, strict=True)):
        values = np.asarray(known).tolist()
        if any(value is None or value != value for value in values):
            raise Uncompiled("an encoder that knows a missing value has no compiled form")
        name = f"x{place}" if names is None else str(names[place])
        columns.append({"categories": values, "table": arrays.add(table), "unknown": unknown, "name": name})
    return [{"op": "lookup", "columns": columns}]


def _impute(step: Any, arrays: Arrays) -> list[Document]:
    values = np.asarray(step.statistics_)
    if values.dtype.kind in "USO":  # texts have no missing value on the wire
        if step.indicator_ is not None or not step.missing_values != step.missing_values:
            raise Uncompiled("a SimpleImputer of texts has no compiled form")
        return []
    if not step.missing_values != step.missing_values:
        raise Uncompiled(f"a SimpleImputer for the value {step.missing_values!r} has no compiled form")
    values = values.astype(np.float64)
    kept = np.arange(len(values)) if step.keep_empty_features else np.flatnonzero(~np.isnan(values))
    indicators = step.indicator_.features_ if step.indicator_ is not None else np.empty(0, np.int64)
    names = {"values": values, "kept": kept, "indicators": np.asarray(indicators, np.int64)}
    return [{"op": "impute", **{name: arrays.add(array) for name, array in names.items()}}]


def _pca(step: Any, arrays: Arrays) -> list[Document]:
    weights = step.components_.T
    if getattr(step, "whiten", False):
        weights = weights / np.sqrt(step.explained_variance_)
    found: Document = {"op": "matmul", "weights": arrays.add(np.asarray(weights, np.float64))}
    if getattr(step, "mean_", None) is not None:
        found["mean"] = arrays.add(np.asarray(step.mean_, np.float64))
    return [found]


def _select(step: Any, arrays: Arrays) -> list[Document]:
    return [{"op": "select", "columns": arrays.add(np.flatnonzero(step.get_support()))}]


def _powers(step: Any, arrays: Arrays) -> list[Document]:
    return [{"op": "powers", "powers": arrays.add(np.asarray(step.powers_, np.int64))}]


def _function(step: Any, arrays: Arrays) -> list[Document]:
    if step.func is not None:
        raise Uncompiled("a FunctionTransformer runs a function of its own")
    return []


def _pipeline(step: Any, arrays: Arrays) -> list[Document]:
    return [document for _, each in step.steps for document in step_of(each, arrays)]


def _columns(step: Any, arrays: Arrays) -> list[Document]:
    known = getattr(step, "feature_names_in_", None)
    names = [str(name) for name in known] if known is not None else [f"x{at}" for at in range(step.n_features_in_)]
    weights = step.transformer_weights or {}
    parts = []
    for name, transformer, chosen in step.transformers_:
        places = selected(chosen, names)
        if not places or (isinstance(transformer, str) and transformer == "drop"):
            continue
        if name in weights:
            raise Uncompiled("a ColumnTransformer with weights has no compiled form")
        parts.append({"columns": places, "steps": step_of(transformer, arrays)})
    return [{"op": "parts", "parts": parts}]


def _union(step: Any, arrays: Arrays) -> list[Document]:
    if step.transformer_weights:
        raise Uncompiled("a FeatureUnion with weights has no compiled form")
    parts = [
        {"columns": None, "steps": step_of(each, arrays)}
        for _, each in step.transformer_list
        if not (isinstance(each, str) and each == "drop")
    ]
    return [{"op": "parts", "parts": parts}]


_STEPS: dict[str, Callable[[Any, Arrays], list[Document]]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "TargetEncoder": _target,
    "SimpleImputer": _impute,
    "PCA": _pca,
    "TruncatedSVD": _pca,
    "PolynomialFeatures": _powers,
    "Normalizer": lambda step, arrays: [{"op": "normalise", "norm": step.norm}],
    "Binarizer": lambda step, arrays: [{"op": "binarize", "threshold": float(step.threshold)}],
    "FunctionTransformer": _function,
    "Pipeline": _pipeline,
    "ColumnTransformer": _columns,
    "FeatureUnion": _union,
}
