"""How rows reach a scikit-learn estimator: as one matrix of numbers, as columns of several types, or as texts."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.folder import Declared
from mlaas.modelserver.formats.rows import Survey
from mlaas.modelserver.predictor import TensorSpec


class Layout:
    """`kind`: `matrix` is one input [rows, width], `columns` one input [rows, 1] a column, `texts` one of texts [rows].

    `names` of the columns ("" none), `texts`: the places of those that are text, `frame`: the estimator knows columns by name.
    """

    def __init__(self, kind: Literal["matrix", "columns", "texts"], names: Sequence[str], width: int) -> None:
        self.kind = kind
        self.names = list(names)
        self.width = width
        self.texts: set[int] = set()
        self.frame = False
        self.vocabulary: Mapping[str, Any] = {}
        self.survey = Survey(max(width, 1))

    def rows(self, inputs: list[NDArray[Any]], specs: Sequence[TensorSpec]) -> Any:
        """What the estimator's methods take, from the arrays of the signature's inputs."""
        if self.kind == "matrix":
            return self._named(inputs[0])
        if self.kind == "texts":
            return [_text(value) for value in inputs[0].reshape(-1)]
        columns = {}
        for spec, array in zip(specs, inputs, strict=True):
            values = array.reshape(-1)
            if spec.datatype == "BYTES":
                values = np.array([_text(value) for value in values], dtype=object)
            columns[spec.name] = values
        if self.frame:
            return frames().DataFrame(columns)
        matrix = np.empty((len(inputs[0]), len(columns)), dtype=object)
        for at, values in enumerate(columns.values()):
            matrix[:, at] = values
        return matrix

    def _named(self, matrix: NDArray[Any]) -> Any:
        """A ColumnTransformer that selects by name takes no plain matrix."""
        return frames().DataFrame(matrix, columns=self.names) if self.frame else matrix


def layout_of(model: Any, declared: Declared) -> Layout:
    """How this estimator takes its rows, from what it has learnt and the folder declares."""
    first = _first_step(model)
    if hasattr(first, "vocabulary_"):
        layout = Layout("texts", (), 1)
        layout.vocabulary = first.vocabulary_
        return layout
    known = getattr(model, "feature_names_in_", None)
    names = [str(name) for name in (known if known is not None else declared.features)]
    width = int(getattr(model, "n_features_in_", 0) or len(names) or -1)
    places = names or [f"x{at}" for at in range(max(width, 0))]
    survey = Survey(max(width, 1))
    texts: set[int] = set()
    _learn(model, list(range(len(places))), places, survey, texts)
    several = len(declared.inputs) > 1 or (bool(texts) and not declared.inputs)
    layout = Layout("columns" if several else "matrix", places if several else names, width)
    layout.survey, layout.texts = survey, texts
    layout.frame = known is not None and _by_name(model)
    return layout


def _first_step(model: Any) -> Any:
    while hasattr(model, "steps"):
        model = model.steps[0][1]
    return model


def _by_name(model: Any) -> bool:
    """Whether some ColumnTransformer in it selects columns by name."""
    for _, step in getattr(model, "steps", ()):
        if _by_name(step):
            return True
    return any(_names_in(chosen) for _, _, chosen in getattr(model, "transformers", ()) if not callable(chosen)) or any(
        callable(chosen) for _, _, chosen in getattr(model, "transformers", ())
    )


def _names_in(chosen: Any) -> bool:
    if isinstance(chosen, str):
        return True
    return isinstance(chosen, list | tuple | np.ndarray) and any(isinstance(each, str) for each in chosen)


def _learn(model: Any, places: list[int], names: list[str], survey: Survey, texts: set[int]) -> None:
    """What scalers and encoders tell of the columns `places` that they were fitted on."""
    if isinstance(model, str) or model is None:
        return
    for _, step in getattr(model, "steps", ()):
        _learn(step, places, names, survey, texts)
        if not hasattr(step, "statistics_"):  # an imputer leaves the columns as they are
            return
    for _, transformer, chosen in getattr(model, "transformers_", ()):
        _learn(transformer, [places[at] for at in selected(chosen, names)], names, survey, texts)
    categories = getattr(model, "categories_", None)
    if categories is not None and len(categories) == len(places):
        for at, known in zip(places, categories, strict=True):
            if np.asarray(known).dtype.kind in "USO":
                texts.add(at)
            if len(known):
                survey.categories[at] = [value for value in np.asarray(known).tolist() if value == value]
    elif hasattr(model, "vocabulary_"):
        for at in places:
            texts.add(at)
            survey.categories[at] = sorted(model.vocabulary_)[:50]
    mean, scale = getattr(model, "mean_", getattr(model, "center_", None)), getattr(model, "scale_", None)
    for values, kept in ((mean, survey.mean), (scale, survey.scale)):
        if isinstance(values, np.ndarray) and values.shape == (len(places),):
            kept[places] = values


def selected(chosen: Any, names: Sequence[str]) -> list[int]:
    """The places of a ColumnTransformer's columns (as it keeps them once fitted)."""
    if isinstance(chosen, slice):
        return list(range(len(names)))[chosen]
    array = np.asarray(chosen).reshape(-1)
    if array.dtype == bool:
        return [int(at) for at in np.flatnonzero(array)]
    return [names.index(str(at)) if isinstance(at, str) else int(at) for at in array.tolist()]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def frames() -> Any:
    """pandas. Raises Invalid with the fix where it is not installed."""
    try:
        return import_module("pandas")
    except ModuleNotFoundError:
        raise Invalid(
            "The model was trained on columns with names; to open it needs pandas, which is not installed here.",
            field="environment",
            hint="`pip install pandas`, or name it in `environment.requirements`.",
        ) from None
