"""Heads of a compiled model: from the prepared matrix to the named outputs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.modelserver.compiled.steps import Arrays

Head = Callable[[Any, list[str]], list[NDArray[Any]]]
Scores = Callable[[Any], NDArray[Any]]


def build(document: Mapping[str, Any], arrays: Arrays, folder: Path) -> Head:
    """The head that a document describes: `scores` gives one number or several a row, `outputs` says what is made of them."""
    op = document["op"]
    if op == "linear":
        scores = _linear(arrays[document["weights"]], arrays[document["intercept"]])
    else:  # "matrix": what the steps prepared is the answer
        scores = np.asarray
    return _outputs(document["outputs"], scores, arrays)


def _linear(weights: NDArray[Any], intercept: NDArray[Any]) -> Scores:
    def scores(matrix: Any) -> NDArray[Any]:
        answer: NDArray[Any] = matrix.dot(weights)
        answer += intercept
        return answer

    return scores


def _outputs(documents: Mapping[str, Mapping[str, Any]], scores: Scores, arrays: Arrays) -> Head:
    makers = {name: _maker(document, arrays) for name, document in documents.items()}

    def head(matrix: Any, wanted: list[str]) -> list[NDArray[Any]]:
        found = scores(matrix)
        return [makers[name](found) for name in wanted]

    return head


def _maker(document: Mapping[str, Any], arrays: Arrays) -> Scores:
    """From scores [rows, k] to one output."""
    form = document["form"]
    if form in ("above", "largest"):
        classes = class_array(document["classes"], arrays)
        if form == "largest":
            return lambda scores: classes[scores.argmax(axis=1)]
        threshold = document.get("threshold", 0.0)
        return lambda scores: classes[(scores[:, 0] > threshold).view(np.int8)]
    if form == "scaled":
        factor, column = document.get("divisor", 1.0), document.get("column")
        return lambda scores: (scores if column is None else scores[:, column]) / factor
    return FORMS[form]


def class_array(classes: Any, arrays: Arrays) -> NDArray[Any]:
    """Labels by index: texts as bytes, numbers from their array."""
    if isinstance(classes, str):
        return arrays[classes]
    array = np.empty(len(classes), dtype=object)
    array[:] = [label.encode() for label in classes]
    return array


def _sigmoid(scores: NDArray[Any]) -> NDArray[Any]:
    """Of one score a row: the probabilities of both classes."""
    answer = np.empty((len(scores), 2), scores.dtype)
    positive = logistic(scores[:, 0])
    answer[:, 1] = positive
    np.subtract(1, positive, out=answer[:, 0])
    return answer


def logistic(scores: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-x)), without overflow for large negative x."""
    small = np.exp(-np.abs(scores))
    answer: NDArray[Any] = np.where(scores >= 0, 1, small) / (1 + small)
    return answer


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """exp(x) / sum(exp(x)) along a row, shifted by its largest."""
    answer: NDArray[Any] = np.exp(scores - scores.max(axis=1, keepdims=True))
    answer /= answer.sum(axis=1, keepdims=True)
    return answer


def _independent(scores: NDArray[Any]) -> NDArray[Any]:
    """One against the rest: a sigmoid for each class, normalised to 1."""
    answer = logistic(scores)
    answer /= answer.sum(axis=1, keepdims=True)
    return answer


FORMS: dict[str, Scores] = {
    "all": lambda scores: scores,
    "first": lambda scores: scores[:, 0].copy(),
    "exp": lambda scores: np.exp(scores[:, 0]),
    "sigmoid": _sigmoid,
    "sigmoid-first": lambda scores: logistic(scores[:, 0]),
    "softmax": softmax,
    "independent": _independent,
}
