"""Weights of a text encoder in 8 bits, where the accuracy on the user's own rows allows it.

Quantisation is ONNX Runtime's dynamic one: weights once, symmetrically and a channel each; activations at every run. Whether the
model that comes out is good enough nobody knows but who has its data: without rows there is no int8, and with them what is lost
is measured and kept in the model's status, also where it is too much and the model is served in float.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import objectives, text
from mlaas.modelserver.predictor import Signature
from mlaas.modelserver.tensors import DTYPES

MAX_DROP = 0.01
FEWEST, ENOUGH = 20, 100
_LABELLED = {"text-classification", "next-sentence-prediction", "question-answering"}
_MOST = 10_000


class Gate:
    """The rows of a model's owner, and what may be lost on them.

    `asked` is `{"rows": FILE, "max_drop": 0.01}`, the file relative to `root`: a JSON object a line, or CSV, with the model's
    inputs by name and, to compare with the truth, `label`. Raises Invalid for rows that cannot be read.
    """

    def __init__(self, asked: dict[str, Any], signature: Signature, root: Path) -> None:
        self.limit = _limit(asked.get("max_drop", MAX_DROP))
        self._signature = signature
        self._inputs, self._labels = _rows(signature, _file(root, str(asked.get("rows", ""))))

    def quantise(self, document: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Replace the network in `folder`, which `document` describes, by one of 8 bits if that passes. What of it goes into the
        status: `{"served", "reason"?, "rows", "max_drop", "measure", "agreement" | "float" and "int8"}`.

        The drop is that of the share of right answers where there are labels and the objective has one, else what is missing
        from full agreement with the float model: the share of equal answers, the mean cosine of vectors, or R2 of scores.
        """
        count = len(self._inputs[0])
        found: dict[str, Any] = {"rows": count, "max_drop": self.limit}
        least = _least(self.limit)
        if count < least:
            reason = f"a drop of {self.limit:g} does not show on {count} rows: give at least {least}"
            return {"served": False, "reason": reason, **found}
        whole, small = folder / text.GRAPH, folder / "int8.onnx"
        plain = text.objective_of(document, folder)
        _quantise(whole, small)
        quick = type(plain)(plain.facts, plain.tokenizer, text.Network(small))
        drop, measured = self._measured(plain, quick)
        found |= measured
        if not drop <= self.limit + 1e-9:  # also when it is no number
            small.unlink()
            reason = f"{found['measure']}: int8 loses {drop:.4g} on {count} rows, and {self.limit:g} is allowed"
            return {"served": False, "reason": reason, **found}
        for name in (text.GRAPH, f"{text.GRAPH}.data"):
            (folder / name).unlink(missing_ok=True)
        small.rename(whole)
        return {"served": True, **found}

    def _measured(self, plain: objectives.Objective, quick: objectives.Objective) -> tuple[float, dict[str, Any]]:
        facts, labels = plain.facts, self._labels
        before, after = (_answers(each, self._signature, self._inputs) for each in (plain, quick))
        scores = facts.get("activation") == "none"
        if labels is None or facts["objective"] not in _LABELLED or scores:
            measure, agreement = _agreement(before, after, scores)
            return 1 - agreement, {"measure": measure, "agreement": round(agreement, 6)}
        right, still = _right(before, labels), _right(after, labels)
        return right - still, {"measure": "share of right answers", "float": round(right, 6), "int8": round(still, 6)}


def _quantise(whole: Path, small: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(whole), str(small), per_channel=True, weight_type=QuantType.QInt8)


def _limit(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Invalid("`max_drop` is a number from 0 to 1.", field="int8.max_drop")
    return float(value)


def _least(limit: float) -> int:
    """Rows on which a drop of this size is at least one answer."""
    return min(ENOUGH, max(FEWEST, math.ceil(1 / limit - 1e-9) if limit else ENOUGH))


def _file(root: Path, given: str) -> Path:
    """The file of rows, or the only one in a folder."""
    path = root / given
    if path.is_dir():
        fitting = sorted(each for each in path.iterdir() if each.suffix in (".jsonl", ".csv"))
        if len(fitting) != 1:
            raise Invalid(f"{path.name} holds {len(fitting)} files of rows.", field="int8.rows", hint="Name the file.")
        return fitting[0]
    return path


def _rows(signature: Signature, path: Path) -> tuple[list[NDArray[Any]], list[str] | None]:
    names = [spec.name for spec in signature.inputs]
    try:
        with path.open(newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                rows = [row for _, row in zip(range(_MOST), csv.DictReader(file), strict=False)]
            else:
                lines = (line for line in file if line.strip())
                rows = [json.loads(line) for _, line in zip(range(_MOST), lines, strict=False)]
        columns = [[str(row[name]) for row in rows] for name in names]
        labels = [str(row["label"]) for row in rows] if rows and all("label" in row for row in rows) else None
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise Invalid(
            f"The rows for int8 in {path.name} cannot be read: {error!r}.",
            field="int8.rows",
            hint=f"A JSON object a line, or CSV, with {', '.join(names)} and, if there is one, label.",
        ) from error
    if not rows:
        raise Invalid(f"{path.name} has no rows.", field="int8.rows")
    return [_texts(column) for column in columns], labels


def _texts(column: list[str]) -> NDArray[Any]:
    array = np.empty(len(column), dtype=DTYPES["BYTES"])
    array[:] = [item.encode() for item in column]
    return array


def _answers(objective: objectives.Objective, signature: Signature, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    """The model's first output: labels, entities, answers, vectors or scores."""
    (found,), _ = objectives.respond(objective, signature, inputs, [signature.outputs[0].name], {})
    return found


def _agreement(before: NDArray[Any], after: NDArray[Any], scores: bool) -> tuple[str, float]:
    """How well answers agree, and by which measure; 1 is equality."""
    if before.dtype.kind != "f":
        equal = [
            objectives.unscored(one) == objectives.unscored(other) for one, other in zip(before, after, strict=True)
        ]
        return "share of equal answers", float(np.mean(equal))
    one, other = before.astype(np.float64), after.astype(np.float64)
    if scores:
        spread = float(((one - one.mean(axis=0)) ** 2).sum())
        return "R2 of the scores", 1 - float(((one - other) ** 2).sum()) / max(spread, 1e-12)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return "mean cosine", float(np.mean((one * other).sum(axis=1) / np.maximum(lengths, 1e-12)))


def _right(answers: NDArray[Any], labels: list[str]) -> float:
    return float(np.mean([item.decode() == label for item, label in zip(answers, labels, strict=True)]))
