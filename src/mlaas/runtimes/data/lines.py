"""JSON lines and plain text as rows with their lines."""

from collections.abc import Iterator
from typing import Any

import orjson

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.spec import DatasetSource
from mlaas.runtimes.data.streams import known_encoding

Row = dict[str, Any]


def text(file: DataFile, source: DatasetSource) -> Iterator[tuple[int, str]]:
    """(line, text) of every line that is not blank. Raises Invalid for a wrong encoding."""
    encoding = source.loader_kwargs.encoding
    known_encoding(encoding)
    with file.text(encoding) as stream:
        try:
            for number, line in enumerate(stream, 1):
                line = line.rstrip("\r\n")
                if line and not line.isspace():
                    yield number, line
        except UnicodeError as error:
            raise file.undecodable(encoding) from error


def json_lines(file: DataFile, source: DatasetSource) -> Iterator[tuple[int, Row]]:
    """(line, object): one JSON object a line. Raises Invalid with the line of the first that is none."""
    for number, line in text(file, source):
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
                f"{file.name}, line {number}: a {kind(row)} where an object is expected.",
                field="dataset.path",
                hint='Each line is an object with the columns as keys, for example {"text": "...", "label": "..."}.',
            )
        yield number, row


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {str: "text", bool: "true/false", int: "number", float: "number", list: "list", dict: "object"}
    return kinds.get(type(value), "null")


class Kinds:
    """The kind of each column's values so far; a value of another kind is an error: a column has one type."""

    def __init__(self, file: DataFile, unit: str) -> None:
        self._name, self._unit = file.name, unit
        self._first: dict[str, tuple[str, int]] = {}

    def see(self, row: Row, number: int) -> None:
        """Raises Invalid naming the column and both places."""
        for name, value in row.items():
            if value is None:
                continue
            found = kind(value)
            first = self._first.setdefault(name, (found, number))
            if found != first[0]:
                raise Invalid(
                    f"{self._name}: the column {name!r} mixes types: {first[0]} in {self._unit} {first[1]}, "
                    f"{found} in {self._unit} {number}.",
                    field="dataset.path",
                    hint=MIXED,
                )


MIXED = "Write every value of a column in one type, for example all labels as text."
