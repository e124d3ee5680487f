"""Which column of a table plays which role, and its values checked: texts are text, labels text or whole numbers."""

from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.spec import DatasetSource

DEFAULTS = {
    "text": "text",
    "text_pair": "text_pair",
    "label": "label",
    "tokens": "tokens",
    "tags": "tags",
    "question": "question",
    "context": "context",
    "answers": "answers",
    "page_content": "text",
}


def column(table: pa.Table, source: DatasetSource, role: str, field: str = "dataset") -> str:
    """The name of the column in a role of `DEFAULTS`: what `<role>_column` says, else the default name.

    Raises Invalid with the columns found and the nearest name; `field` is the key of the data set in the task.
    """
    name, key = _wanted(source, role)
    if name in table.column_names:
        return name
    found = table.column_names
    nearest = get_close_matches(name.lower(), [other.lower() for other in found], n=1, cutoff=0.6)
    match = next((other for other in found if nearest and other.lower() == nearest[0]), None)
    listing = ", ".join(repr(other[:80]) for other in found[:50])
    setting = f'"loader_kwargs": {{"{role}_column": "{match or found[0][:80]}"}}'
    if match:
        hint = f"Did you mean {match!r}? Say so with {setting}."
    elif any(" " in other.strip() or len(other) > 40 for other in found):
        hint = "The first line must name the columns; this one looks like a row."
    else:
        hint = f"Name it with {setting}, or rename the column."
    raise Invalid(f"The data set has no column {name!r}. Columns found: {listing}.", field=f"{field}.{key}", hint=hint)


def has(table: pa.Table, source: DatasetSource, role: str) -> bool:
    """Whether the column is there; a name that the task says explicitly but is not there is an error of `column`."""
    return _wanted(source, role)[0] in table.column_names


def texts(table: pa.Table, name: str, field: str = "dataset.text_column") -> pa.ChunkedArray:
    """A column as text without nulls; whole numbers are written out. Raises Invalid with the row (from 1)."""
    values = table.column(name)
    if pa.types.is_integer(values.type):
        values = values.cast(pa.string())
    if not (
        pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type)
    ):
        raise Invalid(
            f"The column {name!r} holds {values.type}, not text.",
            field=field,
            hint="Name the column that holds the text.",
        )
    if values.null_count:
        row = _first(pc.is_null(values))
        raise Invalid(
            f"The column {name!r} has no text in {values.null_count} rows; the first is row {row}.",
            field=field,
            hint="Fill these rows or remove them.",
        )
    return values


def labels(table: pa.Table, name: str, field: str = "dataset.label_column") -> pa.ChunkedArray:
    """A column of labels, text or whole numbers, without nulls or empty texts. Raises Invalid with the row (from 1)."""
    values = table.column(name)
    text = (
        pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type)
    )
    if not text and not pa.types.is_integer(values.type):
        raise Invalid(
            f"The column {name!r} holds {values.type}; labels are text or whole numbers.",
            field=field,
            hint="Name the column that holds the labels, or write the labels as text.",
        )
    missing = pc.is_null(values)
    if text:
        missing = pc.or_(missing, pc.equal(pc.fill_null(values, ""), ""))
    if pc.any(missing).as_py():
        count = pc.sum(missing).as_py()
        raise Invalid(
            f"The column {name!r} has no label in {count} rows; the first is row {_first(missing)}.",
            field=field,
            hint="Fill these rows or remove them; a class of its own needs a name, for example [Unknown].",
        )
    return values


def _wanted(source: DatasetSource, role: str) -> tuple[str, str]:
    """(column name, the key that says so)."""
    if role in ("text", "label"):
        direct = getattr(source, f"{role}_column")
        if direct is not None:
            return str(direct), f"{role}_column"
    given = getattr(source.loader_kwargs, f"{role}_column")
    return str(given if given is not None else DEFAULTS[role]), f"loader_kwargs.{role}_column"


def _first(mask: pa.ChunkedArray) -> int:
    return int(pc.index(mask, True).as_py()) + 1
