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
    """The head that a document describes: `op` gives one number or several a row, `outputs` says what is made of them."""
    op = document["op"]
    if op == "linear":
        scores = _linear(arrays[document["weights"]], arrays[document["intercept"]])
    elif op == "forest":
        from mlaas.modelserver.compiled import forest

        scores = forest.scores(document, arrays, folder)
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
    if "classes" in document:
        return _labels(document, class_array(document["classes"], arrays))
    if form == "isolation":
        return _isolation(document)
    made = FORMS[form]
    divisor, factor = document.get("divisor", 1), document.get("factor", 1.0)
    if divisor != 1:
        return lambda scores: made(scores / divisor)
    if factor != 1.0:
        return lambda scores: made(scores * factor)
    return made


def _labels(document: Mapping[str, Any], classes: NDArray[Any]) -> Scores:
    """The class of the largest score; with one score a row, whether it is above (or, `inclusive`, at) 0; or `likeliest`: by
    the probabilities that another form gives."""
    if document["form"] == "largest":
        return lambda scores: classes[scores.argmax(axis=1)]
    if document["form"] == "likeliest":
        made, factor = FORMS[document["of"]], document.get("factor", 1.0)
        if factor != 1.0:
            return lambda scores: classes[made(scores * factor).argmax(axis=1)]
        return lambda scores: classes[made(scores).argmax(axis=1)]
    if document.get("inclusive"):
        return lambda scores: classes[(scores[:, 0] >= 0).view(np.int8)]
    return lambda scores: classes[(scores[:, 0] > 0).view(np.int8)]


def _isolation(document: Mapping[str, Any]) -> Scores:
    scale, offset, gives = document["scale"], document["offset"], document["gives"]

    def made(scores: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = -(2.0 ** -(scores[:, 0] / scale))
        if gives == "score":
            return found
        found = found - offset
        return np.where(found < 0, -1, 1) if gives == "label" else found

    return made


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
    "sigmoid-all": logistic,
    "signed-square": lambda scores: np.sign(scores[:, 0]) * scores[:, 0] * scores[:, 0],
    "sigmoid-first": lambda scores: logistic(scores[:, 0]),
    "softmax": softmax,
    "independent": _independent,
}
