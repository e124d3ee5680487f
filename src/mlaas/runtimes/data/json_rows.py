"""JSON data sets, of which only a window of text is held: a list of objects, however long, is read row by row."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any, NoReturn, TextIO

import orjson

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.lines import Row, json_lines, kind
from mlaas.runtimes.data.spec import DatasetSource
from mlaas.runtimes.data.streams import known_encoding

_CHUNK = 1 << 18  # characters
_LINE = 1 << 20
_AHEAD = 16  # characters: no token but a text is cut so short that its error lies further from the end
_HINT = 'A JSON data set is a list of objects with the columns as keys, for example [{"text": "...", "label": "..."}].'


def rows(file: DataFile, source: DatasetSource) -> Iterator[tuple[int, Row]]:
    """(number from 1, row) of a list of objects, an object of columns, or either under the key `data`; a single object is one
    row. A file of JSON lines under the name .json is read as such, its numbers are lines.

    Lists are read in a window; an object of columns is held whole. Raises Invalid with the line where it is no JSON.
    """
    encoding = source.loader_kwargs.encoding
    known_encoding(encoding)
    if _is_lines(file, encoding):
        yield from json_lines(file, source)
        return
    with file.text(encoding) as stream:
        try:
            yield from _document(file, _Text(file, stream))
        except UnicodeError as error:
            raise file.undecodable(encoding) from error


def unit(file: DataFile, source: DatasetSource) -> str:
    """What the numbers of `rows` count: `line` or `row`."""
    return "line" if _is_lines(file, source.loader_kwargs.encoding) else "row"


def _is_lines(file: DataFile, encoding: str) -> bool:
    """Whether the first line is an object of its own and another line follows."""
    with file.text(encoding) as stream:
        try:
            lines = (line for line in iter(lambda: stream.readline(_LINE), "") if line.strip())
            first = next(lines, "")
            return first.lstrip()[:1] == "{" and _is_object(first) and next(lines, None) is not None
        except UnicodeError as error:
            raise file.undecodable(encoding) from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


class _Text:
    """A JSON text read from the front: `peek` at the next character that is no space, `take` the next value."""

    def __init__(self, file: DataFile, stream: TextIO) -> None:
        self._file, self._stream = file, stream
        self._text, self._at, self._line, self._ended = "", 0, 1, False

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def skip(self, expected: str) -> str:
        """Take the next character, one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            what = " or ".join(f"'{character}'" for character in expected)
            self.fail("the file ends in the middle" if not found else f"{what} expected", self._at)
        self._at += 1
        return found

    def take(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _AHEAD or error.msg.startswith("Unterminated string")
                if self._ended:
                    self.fail("the file ends in the middle" if cut else error.msg.lower(), error.pos)
                if not cut:
                    self.fail(error.msg.lower(), error.pos)
            except RecursionError:
                self.fail("nested too deep", self._at)
            except ValueError as error:  # NaN, or a number of thousands of digits
                self.fail(str(error), self._at)
            else:
                if self._ended or end < len(self._text) or not isinstance(value, int | float):
                    self._at = end
                    return value
            self._more()

    def _more(self) -> None:
        """More text behind what is not taken yet, at least as much again: a long value is tried a few times only."""
        chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        if not chunk:
            self._ended = True
            return
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + chunk, 0

    def fail(self, why: str, at: int | None = None) -> NoReturn:
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        raise Invalid(f"{self._file.name}, line {line}: not JSON: {why}.", field="dataset.path", hint=_HINT)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _document(file: DataFile, text: _Text) -> Iterator[tuple[int, Row]]:
    start = text.peek()
    if start == "":
        return
    if start == "[":
        yield from _numbered(file, _elements(text))
    elif start == "{":
        yield from _object(file, text)
    else:
        value = text.take()
        raise Invalid(f"{file.name} holds a {kind(value)}, no rows.", field="dataset.path", hint=_HINT)
    if text.peek():
        text.fail("something follows the end of the document")


def _elements(text: _Text) -> Iterator[Any]:
    """The values of the list that begins here."""
    text.skip("[")
    if text.peek() == "]":
        text.skip("]")
        return
    while True:
        yield text.take()
        if text.skip(",]") == "]":
            return


def _numbered(file: DataFile, values: Iterator[Any]) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(values, 1):
        if not isinstance(row, dict):
            message = f"{file.name}, row {number}: a {kind(row)} where an object is expected."
            raise Invalid(message, field="dataset.path", hint=_HINT)
        yield number, row


def _object(file: DataFile, text: _Text) -> Iterator[tuple[int, Row]]:
    """Rows of the object that begins here: those of a list under `data` at once, all others when it was read whole."""
    members: Row = {}
    streamed = False
    text.skip("{")
    end = text.peek() == "}"
    if end:
        text.skip("}")
    while not end:
        key = text.take()
        if not isinstance(key, str):
            text.fail("a key must be a text")
        text.skip(":")
        if key == "data" and text.peek() == "[":
            values = _elements(text)
            first = next(values, None)
            if isinstance(first, dict):
                streamed = True
                yield from _numbered(file, chain([first], values))
            else:
                members[key] = [] if first is None else [first, *values]
        else:
            value = text.take()
            if not streamed:
                members[key] = value
        end = text.skip(",}") == "}"
    if not streamed:
        yield from _numbered(file, iter(_rows(file, members)))


def _rows(file: DataFile, members: Row) -> list[Any]:
    inner = members.get("data")
    if isinstance(inner, list) and len(members) <= 3:
        return inner
    if isinstance(inner, dict) and len(members) <= 3:
        members = inner
    if not members or not all(isinstance(column, list) for column in members.values()):
        return [members]
    lengths = {name: len(column) for name, column in members.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise Invalid(f"{file.name}: its columns differ in length: {listing}.", field="dataset.path", hint=_HINT)
    return [dict(zip(members, values, strict=True)) for values in zip(*members.values(), strict=True)]
