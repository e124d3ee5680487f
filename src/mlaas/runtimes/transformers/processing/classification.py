"""Texts (or pairs) to one of several labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.runtimes.transformers.processing.arrays import softmax

LARGEST_MATRIX = 200


def classify(logits: NDArray[np.floating], labels: Sequence[str]) -> list[dict[str, Any]]:
    """(n, labels) -> for each text `{label, score, scores}`; `scores` is every label's probability, best first."""
    answers = []
    for row in softmax(logits):
        order = np.argsort(-row, kind="stable")
        scores = {labels[i]: round(float(row[i]), 6) for i in order}
        answers.append({"label": labels[order[0]], "score": round(float(row[order[0]]), 6), "scores": scores})
    return answers


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Counts (true class, predicted class)."""
    flat = truth.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def report(truth: NDArray[np.integer], predicted: NDArray[np.integer], labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro F1 over the classes that occur, a row per class, and the confusion matrix (rows are true classes).

    The matrix is left out above 200 classes.
    """
    matrix = confusion(truth, predicted, len(labels))
    hits, support, chosen = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    precision = hits / np.maximum(chosen, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + chosen, 1)
    occurs = (support + chosen) > 0
    result: dict[str, Any] = {
        "accuracy": float(hits.sum() / max(1, matrix.sum())),
        "f1": float(f1[occurs].mean()) if occurs.any() else 0.0,
        "per_class": {
            label: {
                "precision": round(float(precision[i]), 6),
                "recall": round(float(recall[i]), 6),
                "f1": round(float(f1[i]), 6),
                "support": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
    }
    if len(labels) <= LARGEST_MATRIX:
        result["confusion_matrix"] = {"labels": list(labels), "matrix": matrix.tolist()}
    return result
