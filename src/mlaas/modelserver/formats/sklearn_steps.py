"""From fitted scikit-learn transformers to the steps of a compiled program."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlaas.modelserver.formats.base import Uncompiled

if TYPE_CHECKING:
    from mlaas.modelserver.formats.sklearn_export import Arrays

Document = dict[str, Any]


def step_of(transformer: Any, arrays: "Arrays") -> list[Document]:
    """The steps of a transformer. Raises Uncompiled, naming it, when it has none."""
    name = type(transformer).__name__
    maker = _STEPS.get(name)
    if maker is None or not type(transformer).__module__.startswith("sklearn."):
        raise Uncompiled(f"there is no compiled form of {name}")
    return maker(transformer, arrays)


def _scale(arrays: "Arrays", clip: Any = None, **values: Any) -> list[Document]:
    given = {name: arrays.add(np.asarray(value, np.float64)) for name, value in values.items() if value is not None}
    return [{"op": "scale", **given, **({"clip": list(clip)} if clip else {})}]


def _standard(step: Any, arrays: "Arrays") -> list[Document]:
    return _scale(arrays, mean=step.mean_ if step.with_mean else None, scale=step.scale_ if step.with_std else None)


def _min_max(step: Any, arrays: "Arrays") -> list[Document]:
    return _scale(arrays, step.feature_range if step.clip else None, factor=step.scale_, shift=step.min_)


def _max_abs(step: Any, arrays: "Arrays") -> list[Document]:
    return _scale(arrays, scale=step.scale_)


def _robust(step: Any, arrays: "Arrays") -> list[Document]:
    return _scale(
        arrays, mean=step.center_ if step.with_centering else None, scale=step.scale_ if step.with_scaling else None
    )


_STEPS: dict[str, Callable[[Any, "Arrays"], list[Document]]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
}
