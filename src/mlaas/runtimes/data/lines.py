"""JSON lines, JSON and plain text as batches of rows."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.delimited import known_encoding, opened, undecodable
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.spec import DatasetSource

ROWS = 32_768
Row = dict[str, Any]


def text(file: DataFile, source: DatasetSource) -> Iterator[pa.RecordBatch]:
    """One row, column `text`, per line; blank lines are left out."""
    rows: list[str] = []
    for _, line in _lines(file, source):
        rows.append(line)
        if len(rows) == ROWS:
            yield pa.record_batch({"text": pa.array(rows, pa.string())})
            rows = []
    if rows:
        yield pa.record_batch({"text": pa.array(rows, pa.string())})


def json_lines(file: DataFile, source: DatasetSource, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    """One JSON object per line. Raises Invalid with the line of the first that is none."""
    rows: list[Row] = []
    numbers: list[int] = []
    for number, line in _lines(file, source):
        try:
            row = orjson.loads(line)
        except ValueError as error:
            raise Invalid(
                f"{file.name}, line {number}: not JSON: {error}.",
                field="dataset.path",
                hint="JSON lines hold one complete JSON object per line.",
            ) from error
        if not isinstance(row, dict):
            raise Invalid(
                f"{file.name}, line {number}: a {_kind(row)} where an object is expected.",
                field="dataset.path",
                hint='Each line is an object with the columns as keys, for example {"text": "...", "label": "..."}.',
            )
        rows.append(row)
        numbers.append(number)
        if len(rows) == ROWS:
            yield _batch(file, rows, numbers, schema, "line")
            rows, numbers = [], []
    if rows:
        yield _batch(file, rows, numbers, schema, "line")


def json(file: DataFile, source: DatasetSource, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    """A list of objects, an object of columns, or either under the key `data`. Read whole: use JSON lines for what does not
    fit in memory. A file of JSON lines under the name .json is read as such."""
    encoding = source.loader_kwargs.encoding
    known_encoding(encoding)
    with opened(file, encoding) as stream:
        try:
            content = stream.read()
        except UnicodeError as error:
            raise undecodable(file, encoding) from error
    if not content.strip():
        return
    try:
        document = orjson.loads(content)
    except ValueError as error:
        first = content.lstrip().split("\n", 1)[0]
        if _is_object(first):
            yield from json_lines(file, source, schema)
            return
        line = content.count("\n", 0, getattr(error, "pos", 0)) + 1
        raise Invalid(
            f"{file.name}, line {line}: not JSON: {error}.",
            field="dataset.path",
            hint="A JSON data set is a list of objects with the columns as keys.",
        ) from error
    del content
    if isinstance(document, dict) and isinstance(document.get("data"), list | dict) and len(document) <= 3:
        document = document["data"]
    rows = _rows(file, document)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        yield _batch(file, part, list(range(start + 1, start + len(part) + 1)), schema, "row")


def _lines(file: DataFile, source: DatasetSource) -> Iterator[tuple[int, str]]:
    encoding = source.loader_kwargs.encoding
    known_encoding(encoding)
    with opened(file, encoding) as stream:
        try:
            for number, line in enumerate(stream, 1):
                line = line.rstrip("\r\n")
                if line and not line.isspace():
                    yield number, line
        except UnicodeError as error:
            raise undecodable(file, encoding) from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


def _rows(file: DataFile, document: Any) -> list[Row]:
    hint = (
        'A JSON data set is a list of objects with the columns as keys, for example [{"text": "...", "label": "..."}].'
    )
    if isinstance(document, list):
        for number, row in enumerate(document, 1):
            if not isinstance(row, dict):
                raise Invalid(
                    f"{file.name}, row {number}: a {_kind(row)} where an object is expected.",
                    field="dataset.path",
                    hint=hint,
                )
        return document
    if isinstance(document, dict) and document and all(isinstance(column, list) for column in document.values()):
        lengths = {name: len(column) for name, column in document.items()}
        if len(set(lengths.values())) > 1:
            listing = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise Invalid(f"{file.name}: its columns differ in length: {listing}.", field="dataset.path", hint=hint)
        names = list(document)
        return [dict(zip(names, values, strict=True)) for values in zip(*document.values(), strict=True)]
    if isinstance(document, dict):
        return [document]
    raise Invalid(f"{file.name} holds a {_kind(document)}, no rows.", field="dataset.path", hint=hint)


def _batch(file: DataFile, rows: list[Row], numbers: list[int], schema: pa.Schema | None, unit: str) -> pa.RecordBatch:
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    arrays = []
    for name in names:
        values = [row.get(name) for row in rows]
        type = schema.field(name).type if schema is not None and schema.get_field_index(name) >= 0 else None
        try:
            try:
                arrays.append(pa.array(values, type))
            except pa.ArrowInvalid:
                arrays.append(pa.array(values))  # wider than before: the spool starts over with what holds both
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise _mixed(file, name, values, numbers, unit, error) from error
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _mixed(file: DataFile, name: str, values: list[Any], numbers: list[int], unit: str, error: Exception) -> Invalid:
    hint = "Write every value of a column in one type, for example all labels as text."
    first: tuple[str, int] | None = None
    for value, number in zip(values, numbers, strict=True):
        if value is None:
            continue
        kind = _kind(value)
        if first is None:
            first = kind, number
        elif kind != first[0]:
            return Invalid(
                f"{file.name}: the column {name!r} mixes types: {first[0]} in {unit} {first[1]}, {kind} in {unit} {number}.",
                field="dataset.path",
                hint=hint,
            )
    return Invalid(f"{file.name}: the column {name!r} has no single type: {error}.", field="dataset.path", hint=hint)


def _kind(value: Any) -> str:
    kinds = {str: "text", bool: "true/false", int: "number", float: "number", list: "list", dict: "object"}
    return kinds.get(type(value), "null")
