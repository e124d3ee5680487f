"""CSV and TSV (RFC 4180 quoting, a header line) read by the standard library: the layout, and the rows with their lines.

Recipes read the rows themselves with pyarrow (`batches`) and come here for the header and for where a file is broken.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.spec import DatasetSource
from mlaas.runtimes.data.streams import known_encoding

csv.field_size_limit(1 << 30)  # a cell may hold a document; Python's own limit is 128 KiB


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is laid out, and the names in its header."""

    encoding: str
    delimiter: str
    names: list[str]


def layout(file: DataFile, source: DatasetSource) -> Layout | None:
    """None for a file without a row. Raises Invalid for a missing or doubled column name and a wrong encoding (line, guess)."""
    encoding = source.loader_kwargs.encoding
    known_encoding(encoding)
    delimiter = source.loader_kwargs.delimiter or ("\t" if file.format == "tsv" else _delimiter(file, encoding))
    with file.text(encoding) as text:
        try:
            names = next((row for row in csv.reader(text, delimiter=delimiter) if row), None)
        except csv.Error as error:
            raise Invalid(f"{file.name} is no CSV file: {error}.", field="dataset.path", hint=_HEADER) from error
        except UnicodeError as error:
            raise file.undecodable(encoding) from error
    if not names:
        return None
    _check_names(file, names)
    return Layout(encoding, delimiter, names)


def rows(file: DataFile, found: Layout) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row behind the header; blank lines are none. Raises Invalid for a row of another width (its
    line) and a wrong encoding."""
    with file.text(found.encoding) as text:
        reader = csv.reader(text, delimiter=found.delimiter)
        line, expected, header = 1, len(found.names), True
        try:
            for row in reader:
                if row and len(row) != expected:
                    raise Invalid(
                        f"{file.name}, line {line}: {len(row)} cells where the header has {expected}.",
                        field="dataset.path",
                        hint=_QUOTE,
                    )
                if row and not header:
                    yield line, row
                header = header and not row
                line = reader.line_num + 1
        except csv.Error as error:
            raise Invalid(f"{file.name}, line {line}: {error}.", field="dataset.path", hint=_QUOTE) from error
        except UnicodeError as error:
            raise file.undecodable(found.encoding) from error


def unreadable(file: DataFile, found: Layout, error: Exception) -> Invalid:
    """The error for a file that another reader could not read: its first broken row where there is one."""
    try:
        for _ in rows(file, found):
            pass
    except Invalid as known:
        return known
    return Invalid(f"{file.name} cannot be read as CSV: {error}.", field="dataset.path", hint=_QUOTE)


_HEADER = "The first line must name the columns, each once, for example: text,label"
_QUOTE = "Quote a text that holds the delimiter, a quote or a line break, as spreadsheets do on export."


def _check_names(file: DataFile, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if not name.strip():
            raise Invalid(f"{file.name} has a column without a name in line 1.", field="dataset.path", hint=_HEADER)
        if count > 1:
            raise Invalid(
                f"{file.name} has no header, or one that names {name[:80]!r} {count} times.",
                field="dataset.path",
                hint=_HEADER,
            )
        if name.replace(".", "", 1).lstrip("-").isdigit():
            raise Invalid(
                f"{file.name} has no header: line 1 holds the number {name}.", field="dataset.path", hint=_HEADER
            )


def _delimiter(file: DataFile, encoding: str) -> str:
    """A comma, unless the header has none but another usual delimiter (a semicolon where the comma is the decimal point)."""
    with file.text(encoding) as text:
        try:
            line = next((line for line in iter(lambda: text.readline(1 << 20), "") if line.strip("\r\n")), "")
        except UnicodeError as error:
            raise file.undecodable(encoding) from error
    if "," in line:
        return ","
    return next((candidate for candidate in (";", "\t", "|") if candidate in line), ",")
