"""Shapley values of a model's answers (Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017), made in
the worker of the model that is explained.

They ask nothing of the model but answers, so that they hold for every format: exact up to ten columns, by permutations above
(Strumbelj and Kononenko, 2014), each with its reverse (Mitchell et al., "Sampling Permutations for Shapley Value Estimation",
2022).
A column that is left out has the values of the *background*: rows from where the model is at home, which the folder brings as its
input example or the explainer's options name. For each row the values of all columns and the base value, which is the mean answer
on the background, sum up to the answer.

The package shap gives the same numbers, and a test compares them; importing and compiling it takes a worker ten seconds.
"""

from collections.abc import Iterator
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Original
from mlaas.modelserver.formats.folder import example, from_rows
from mlaas.modelserver.predictor import TensorSpec

EXACT = 10
"""Columns up to which all their subsets are tried."""
_MOST = 1000  # columns; above, explaining one row takes minutes
_BACKGROUND = 100  # rows
_PERMUTATIONS = 10  # and as many reversed
_AT_ONCE = 1 << 16  # rows that the model is asked for in one call
_OPTIONS = ("background", "output")


class Shapley(Original):
    """`model` with `explain`: `shap_values` [rows, columns], or [rows, columns, outputs] of an output with several numbers a row,
    and `base_values` [rows] or [rows, outputs].

    `options`: `background`, rows as V1 takes them; `output`, the one that is explained (default: the probabilities, else the
    first that holds numbers). Raises Invalid for a model without tabular inputs, without such an output, or without a background.
    """

    def __init__(self, model: Original, root: Path, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - {*_OPTIONS, "method"})
        if unknown:
            raise Invalid(
                f"SHAP has no option '{unknown[0]}'.",
                field="explainer.options",
                hint=f"Options: {', '.join(_OPTIONS)}.",
            )
        self.signature = model.signature
        self._model = model
        self._widths = [_width(spec) for spec in self.signature.inputs]
        if not 0 < sum(self._widths) <= _MOST:
            raise Invalid(
                f"SHAP explains tables of up to {_MOST} columns; this model takes {sum(self._widths)}.",
                field="explainer.method",
            )
        self._output = self._chosen(options.get("output"))
        self._background = self._columns(self._reference(root, options.get("background")))

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        return self._model.predict(inputs, outputs)

    def explain(self, inputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        columns = self._columns(inputs)
        found = [self._row([column[place] for column in columns]) for place in range(len(columns[0]))]
        values, base = (np.stack(each) for each in zip(*found, strict=True))
        if values.shape[2] == 1:
            values, base = values[:, :, 0], base[:, 0]
        return {"shap_values": np.ascontiguousarray(values), "base_values": np.ascontiguousarray(base)}

    def _row(self, row: list[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Values [columns, outputs] and base value [outputs] of one row."""
        width = len(row)
        masks = _subsets(width) if width <= EXACT else _paths(width)
        answers = np.concatenate(list(self._answers(row, masks)))
        return (_exact if width <= EXACT else _sampled)(masks, answers), answers[0]

    def _answers(self, row: list[Any], masks: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """The mean answer [masks, outputs] where the columns that a mask says are the row's, the others the background's."""
        size = len(self._background[0])
        step = max(1, _AT_ONCE // size)
        for start in range(0, len(masks), step):
            mask = masks[start : start + step]
            columns = [
                np.where(mask[:, place, None], _alone(row[place], column.dtype), column[None, :]).reshape(-1)
                for place, column in enumerate(self._background)
            ]
            answer = self._model.predict(self._tensors(columns), [self._output])[0]
            yield np.asarray(answer, dtype=np.float64).reshape(len(mask), size, -1).mean(axis=1)

    def _chosen(self, wanted: str | None) -> str:
        numbers = [spec for spec in self.signature.outputs if spec.datatype != "BYTES"]
        names = [spec.name for spec in numbers]
        if wanted is not None:
            if wanted not in names:
                raise Invalid(
                    f"The model has no output '{wanted}' that holds numbers.",
                    field="explainer.options.output",
                    hint=f"It has {', '.join(names) or 'none'}.",
                )
            return wanted
        if not names:
            raise Invalid("The model has no output that holds numbers.", field="explainer.method")
        return next((spec.name for spec in numbers if spec.labels), names[0])

    def _reference(self, root: Path, background: Any) -> list[NDArray[Any]]:
        if background is None:
            found = example(root, self.signature)
            if found is None or not len(found[0]):
                raise Invalid(
                    "SHAP compares with rows from where the model is at home, and this one brings none.",
                    field="explainer.options.background",
                    hint='Name some: `options: {background: [[...], ...]}`, or put {"rows": [[...], ...]} into the '
                    "model's folder as input_example.json.",
                )
            return [array[:_BACKGROUND] for array in found]
        try:
            return [array[:_BACKGROUND] for array in from_rows(background, self.signature)]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Invalid(
                f"The background's rows are not what the model takes: {error}.", field="explainer.options.background"
            ) from None

    def _columns(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        found = []
        for array, width in zip(inputs, self._widths, strict=True):
            table = array.reshape(len(array), width)
            found += [table[:, place] for place in range(width)]
        return found

    def _tensors(self, columns: list[NDArray[Any]]) -> list[NDArray[Any]]:
        tensors, place = [], 0
        for spec, width in zip(self.signature.inputs, self._widths, strict=True):
            table = np.column_stack(columns[place : place + width])
            tensors.append(table if len(spec.shape) > 1 else table[:, 0])
            place += width
        return tensors


def _alone(value: Any, dtype: Any) -> NDArray[Any]:
    """One value as an array without dimensions; text stays one object."""
    array = np.empty((), dtype=dtype)
    array[()] = value
    return array


def _subsets(width: int) -> NDArray[Any]:
    """All subsets of so many columns, [2^width, width]; row number s has the columns that are bits of s."""
    bits: NDArray[Any] = (np.arange(1 << width)[:, None] >> np.arange(width)) & 1
    return bits.astype(bool)


def _exact(masks: NDArray[Any], answers: NDArray[Any]) -> NDArray[Any]:
    """Each column's mean contribution over all orders, from the answers of all `_subsets`."""
    width = masks.shape[1]
    sizes = masks.sum(axis=1)
    weights = np.array([factorial(k) * factorial(width - k - 1) / factorial(width) for k in range(width)])
    values = []
    for place in range(width):
        without = np.flatnonzero(~masks[:, place])
        gained = answers[without | (1 << place)] - answers[without]
        values.append((weights[sizes[without], None] * gained).sum(axis=0))
    return np.stack(values)


def _paths(width: int) -> NDArray[Any]:
    """Columns added one after the other, in random orders and their reverses: [orders * (width + 1), width]."""
    chance = np.random.default_rng(0)
    orders = [chance.permutation(width) for _ in range(_PERMUTATIONS)]
    masks = []
    for order in [*orders, *(order[::-1] for order in orders)]:
        places = np.empty(width, dtype=int)
        places[order] = np.arange(width)
        masks.append(places[None, :] < np.arange(width + 1)[:, None])
    return np.concatenate(masks)


def _sampled(masks: NDArray[Any], answers: NDArray[Any]) -> NDArray[Any]:
    """Each column's mean contribution over the orders of `_paths`."""
    width = masks.shape[1]
    added = masks.reshape(-1, width + 1, width)
    gained = np.diff(answers.reshape(len(added), width + 1, -1), axis=1)  # [orders, step, outputs]
    which = added[:, 1:] & ~added[:, :-1]  # [orders, step, column]: the one that the step adds
    values: NDArray[Any] = np.einsum("osc,osv->cv", which.astype(np.float64), gained) / len(added)
    return values


def _width(spec: TensorSpec) -> int:
    """Columns of an input: of [rows, n] n, of [rows] one. Raises Invalid for what is no table."""
    if len(spec.shape) == 1:
        return 1
    if len(spec.shape) == 2 and spec.shape[1] > 0:
        return spec.shape[1]
    raise Invalid(
        f"SHAP explains tables; the input '{spec.name}' has the shape {list(spec.shape)}.", field="explainer.method"
    )
