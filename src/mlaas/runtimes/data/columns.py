"""Columns of an Arrow table by their role, checked (`roles`)."""

import pyarrow as pa
import pyarrow.compute as pc

from mlaas.runtimes.data import roles
from mlaas.runtimes.data.roles import DEFAULTS, Facts
from mlaas.runtimes.data.spec import DatasetSource

__all__ = ["DEFAULTS", "column", "has", "labels", "read", "texts"]


def column(table: pa.Table, source: DatasetSource, role: str, field: str = "dataset") -> str:
    """The name of the column in a role. Raises Invalid with the columns found and the nearest name."""
    return roles.name(table.column_names, source, role, field)


def has(table: pa.Table, source: DatasetSource, role: str) -> bool:
    return roles.has(table.column_names, source, role)


def read(table: pa.Table, source: DatasetSource, objective: str) -> dict[str, pa.ChunkedArray]:
    """What a training for the objective reads, by role: texts and labels as text, anything else as it is. Raises Invalid."""
    found: dict[str, pa.ChunkedArray] = {}
    for need, name in roles.chosen(table.column_names, source, objective):
        if need.values == "text":
            found[need.role] = texts(table, name, need.field)
        elif need.values == "label":
            found[need.role] = labels(table, name, need.field).cast(pa.string())
        else:
            found[need.role] = table.column(name)
    return found


def texts(table: pa.Table, name: str, field: str = "dataset.text_column") -> pa.ChunkedArray:
    """A column as text without nulls; whole numbers are written out. Raises Invalid with the row (from 1)."""
    values = table.column(name)
    roles.check_text(name, _facts(values, pc.is_null(values)), field)
    return values.cast(pa.string()) if pa.types.is_integer(values.type) else values


def labels(table: pa.Table, name: str, field: str = "dataset.label_column") -> pa.ChunkedArray:
    """A column of labels, text or whole numbers, without nulls or empty texts. Raises Invalid with the row (from 1)."""
    values = table.column(name)
    missing = pc.is_null(values)
    if _kind(values.type) == roles.TEXT:
        missing = pc.or_(missing, pc.equal(pc.fill_null(values, ""), ""))
    roles.check_labels(name, _facts(values, missing), field)
    return values


def _facts(values: pa.ChunkedArray, missing: pa.ChunkedArray) -> Facts:
    count = int(pc.sum(missing).as_py() or 0)
    first = int(pc.index(missing, True).as_py()) + 1 if count else 0
    return Facts(_kind(values.type), count, first)


def _kind(type: pa.DataType) -> str:
    """In the words of `roles`; a type of Arrow that JSON does not have by its own name."""
    is_ = pa.types
    for tests, words in (
        ((is_.is_string, is_.is_large_string, is_.is_string_view), roles.TEXT),
        ((is_.is_integer,), roles.WHOLE),
        ((is_.is_floating,), roles.FRACTION),
        ((is_.is_boolean,), "true/false"),
        ((is_.is_list, is_.is_large_list), "lists"),
        ((is_.is_struct,), "objects"),
        ((is_.is_null,), roles.NOTHING),
    ):
        if any(test(type) for test in tests):
            return words
    return str(type)
