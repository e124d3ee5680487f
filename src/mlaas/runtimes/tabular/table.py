"""A data set as the rows that an estimator is fitted to: which columns, of which type, with which values."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.tabular.spec import FitParams, Preprocessing

Array = npt.NDArray[Any]
Kind = Literal["numeric", "categorical", "text", "passthrough"]
MANY_LEVELS = 50
_NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"


@dataclass(slots=True)
class Column:
    """A feature. `datatype` in the words of the Open Inference Protocol; `categories` sorted, of a categorical one."""

    name: str
    kind: Kind
    datatype: Literal["FP64", "INT64", "BOOL", "BYTES"]
    categories: list[Any] | None = None

    @property
    def number(self) -> bool:
        return self.kind in ("numeric", "passthrough")


@dataclass(slots=True)
class Features:
    """Columns in order, and `rows` as a matrix [rows, columns]: float64 when all are numbers, else objects (text as str, a
    missing text as "", a missing number as NaN)."""

    columns: list[Column]
    warnings: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def numbers(self) -> bool:
        return all(column.number for column in self.columns)

    def rows(self, table: pa.Table) -> Array:
        made = [_values(table.column(column.name), column) for column in self.columns]
        if self.numbers:
            matrix: Array = np.column_stack(made).astype(np.float64, copy=False)
            return matrix
        mixed = np.empty((table.num_rows, len(made)), dtype=object)
        for i, values in enumerate(made):
            mixed[:, i] = values
        return mixed


def choose(tables: list[pa.Table], params: FitParams, missing_allowed: bool) -> tuple[Features, list[pa.Table]]:
    """The features that the task asks for, and the tables with their columns read as what they are. All tables together
    decide (training and test rows): a category that only the test rows have is a category. Raises Invalid."""
    names = _names(tables[0], params)
    for table in tables[1:]:
        for name in [*names, *([params.target] if params.target else [])]:
            present(table, name, "dataset", "The test set")
    features = Features([])
    for name in names:
        kind = _kind(tables, name, params.preprocessing)
        if kind in ("numeric", "passthrough"):
            tables = [_as_number(table, name, params.preprocessing.numeric.missing) for table in tables]
        whole = pa.chunked_array([chunk for table in tables for chunk in table.column(name).chunks])
        if kind in ("numeric", "passthrough"):
            column = _number_column(whole, name, kind, params, missing_allowed)
        else:
            column = _text_column(whole, name, kind, params, features.warnings)
        features.columns.append(column)
    return features, tables


def present(table: pa.Table, name: str, field: str, what: str = "The data set") -> None:
    """Raises Invalid, with the nearest name, when the column is not there."""
    found = table.column_names
    if name in found:
        return
    close = get_close_matches(name.lower(), [other.lower() for other in found], n=1, cutoff=0.6)
    match = next((other for other in found if close and other.lower() == close[0]), None)
    raise Invalid(
        f"{what} has no column {name[:80]!r}.",
        field=field,
        hint=(f"Did you mean {match!r}? " if match else "")
        + f"Its columns: {', '.join(repr(other[:80]) for other in found[:50])}.",
    )


def number(values: pa.ChunkedArray, name: str, field: str, missing: list[str]) -> pa.ChunkedArray:
    """A column as numbers (integers stay integers); what is empty or a word of `missing` is null.
    Raises Invalid with the first row (from 1) that holds something else."""
    if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return values
    if pa.types.is_decimal(values.type) or pa.types.is_null(values.type):
        return values.cast(pa.float64())
    if not _is_text(values.type):
        raise Invalid(
            f"The column {name!r} holds {values.type}, which is no number.",
            field=field,
            hint="Turn it into numbers, or leave it out with preprocessing.columns: drop.",
        )
    values = values.cast(pa.string())
    empty = pc.is_in(pc.utf8_trim_whitespace(values), pa.array(["", *missing], pa.string()))
    values = pc.if_else(empty, pa.scalar(None, pa.string()), values)
    wrong = pc.fill_null(pc.invert(pc.match_substring_regex(values, _NUMBER)), False)
    count = pc.sum(wrong).as_py() or 0
    if count:
        row = first(wrong)
        said = str(values[row - 1].as_py())[:80]
        raise Invalid(
            f"The column {name!r} holds numbers, but not in {count} row{'s' if count > 1 else ''}: row {row} has {said!r}.",
            field=field,
            hint=f"Correct it; empty cells are missing values, and so are words in preprocessing.numeric.missing. Or make the "
            f"column categorical: preprocessing.columns: {{{name}: categorical}}.",
        )
    return pc.utf8_trim_whitespace(values).cast(pa.float64())


def first(mask: pa.ChunkedArray) -> int:
    """The first row, from 1, where `mask` holds."""
    return int(pc.index(mask, True).as_py()) + 1


def _names(table: pa.Table, params: FitParams) -> list[str]:
    taken = {name: what for name, what in ((params.target, "target"), (params.sample_weight, "sample_weight")) if name}
    for name, what in taken.items():
        present(table, name, what)
    for name in params.preprocessing.columns:
        present(table, name, f"preprocessing.columns.{name[:80]}")
    dropped = {name for name, kind in params.preprocessing.columns.items() if kind == "drop"}
    if params.features is not None:
        for i, name in enumerate(params.features):
            present(table, name, f"features.{i}")
            if name == params.sample_weight:
                raise Invalid(f"{name[:80]!r} is the weight of the rows.", field=f"features.{i}")
        names = list(params.features)
    else:
        names = [name for name in table.column_names if name not in taken]
    names = [name for name in names if name not in dropped]
    if not names:
        raise Invalid("There is no feature left to learn from.", field="features", hint="Name at least one column.")
    return names


def _kind(tables: list[pa.Table], name: str, preprocessing: Preprocessing) -> Kind:
    said = preprocessing.columns.get(name)
    if said is not None and said != "drop":
        return said
    types = [table.schema.field(name).type for table in tables]
    if all(pa.types.is_null(each) for each in types):
        _no_value(name)
    if not any(_is_text(each) for each in types):
        return "numeric"
    texts = pc.utf8_trim_whitespace(tables[0].column(name).cast(pa.string()))
    texts = texts.filter(pc.not_equal(pc.fill_null(texts, ""), ""))
    numbers = pc.sum(pc.match_substring_regex(texts, _NUMBER)).as_py() or 0
    return "numeric" if numbers * 2 > len(texts) else "categorical"


def _as_number(table: pa.Table, name: str, missing: list[str]) -> pa.Table:
    values = number(table.column(name), name, f"preprocessing.columns.{name[:80]}", missing)
    return table.set_column(table.column_names.index(name), name, values)


def _number_column(whole: pa.ChunkedArray, name: str, kind: Kind, params: FitParams, missing_allowed: bool) -> Column:
    values = whole.cast(pa.float64()) if not pa.types.is_boolean(whole.type) else whole
    lost = values.null_count
    absent = pc.is_null(values, nan_is_null=True)
    lost = pc.sum(absent).as_py() or 0
    if lost == len(values):
        _no_value(name)
    if lost and not missing_allowed and (kind == "passthrough" or params.preprocessing.numeric.impute is None):
        short = params.estimator.rpartition(".")[2]
        raise Invalid(
            f"The column {name!r} has no value in {lost} row{'s' if lost > 1 else ''} (the first is row {first(absent)}), "
            f"and {short} cannot take missing values.",
            field="preprocessing.numeric.impute",
            hint="Add an imputer, preprocessing: {numeric: {impute: median}}, or use an estimator that takes them: "
            "HistGradientBoosting, XGBoost, LightGBM.",
        )
    if pa.types.is_boolean(whole.type):
        return Column(name, kind, "BOOL")
    infinite = pc.fill_null(pc.is_inf(values), False)
    if pc.any(infinite).as_py():
        raise Invalid(
            f"The column {name!r} is infinite in row {first(infinite)}.",
            field="dataset",
            hint="Leave the cell empty, or write a number.",
        )
    return Column(name, kind, "INT64" if pa.types.is_integer(whole.type) and not lost else "FP64")


def _text_column(whole: pa.ChunkedArray, name: str, kind: Kind, params: FitParams, said: list[str]) -> Column:
    integers = pa.types.is_integer(whole.type) and kind == "categorical"
    if not integers and not _is_text(whole.type) and not pa.types.is_boolean(whole.type):
        raise Invalid(
            f"The column {name!r} holds {whole.type}, which is neither a number, a text nor a truth value.",
            field=f"preprocessing.columns.{name[:80]}",
            hint="Turn it into one of these, or leave it out: drop.",
        )
    if kind == "text":
        return Column(name, kind, "BYTES")
    settings = params.preprocessing.categorical
    texts = whole if integers else pc.fill_null(whole.cast(pa.string()), "")
    absent = pc.is_null(texts) if integers else pc.equal(texts, "")
    lost = pc.sum(absent).as_py() or 0
    if lost == len(texts):
        _no_value(name)
    if lost and (settings.impute is None or integers):
        raise Invalid(
            f"The column {name!r} has no value in {lost} row{'s' if lost > 1 else ''}; the first is row {first(absent)}.",
            field="preprocessing.categorical.impute",
            hint="Write the numbers as text to impute them."
            if integers
            else "Make it a category of its own, preprocessing: {categorical: {impute: missing}}, or take most_frequent.",
        )
    levels = sorted(value for value in pc.unique(texts).to_pylist() if value not in (None, ""))
    if lost and settings.impute == "missing" and "missing" not in levels:
        levels = sorted([*levels, "missing"])
    if len(levels) > settings.max_levels:
        raise Invalid(
            f"The column {name!r} has {len(levels)} categories, more than max_levels, {settings.max_levels}.",
            field=f"preprocessing.columns.{name[:80]}",
            hint="If it is free text, make it text; if it names the row, drop it; else raise categorical.max_levels.",
        )
    if len(levels) > MANY_LEVELS:
        said.append(f"The column {name!r} has {len(levels)} categories: is it one? Otherwise make it text, or drop it.")
    return Column(name, kind, "INT64" if integers else "BYTES", levels)


def _values(values: pa.ChunkedArray, column: Column) -> Array:
    if column.number:
        numbers: Array = values.cast(pa.float64()).to_numpy()
        return numbers
    if column.datatype == "INT64":
        made: Array = values.to_numpy().astype(object)
        return made
    return np.array(pc.fill_null(values.cast(pa.string()), "").to_pylist(), dtype=object)


def _no_value(name: str) -> None:
    raise Invalid(
        f"The column {name!r} has no value in any row.",
        field=f"preprocessing.columns.{name[:80]}",
        hint="Leave it out: drop.",
    )


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))
