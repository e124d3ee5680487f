"""Bodies as users send them: JSON, or YAML by the 1.2 core schema (yaml.org/spec/1.2.2, section 10.3: `2e-5` is a number,
`NO` a text). Plain data only: no tags, no objects; depth and number of values are limited, so an alias cannot explode."""

import json
import math
import re
from typing import Any, NoReturn

import orjson
import yaml

from mlaas.kernel.errors import Malformed, TooLarge

MAX_BYTES = 8 << 20
MAX_DEPTH = 100
MAX_VALUES = 2_000_000

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def parse(data: bytes, content_type: str = "") -> Any:
    """The one document in `data`. Raises Malformed (with the line) or TooLarge."""
    documents = parse_all(data, content_type)
    if len(documents) != 1:
        raise Malformed(f"The body holds {len(documents)} documents; one was expected.")
    return documents[0]


def parse_all(data: bytes, content_type: str = "") -> list[Any]:
    """All documents in `data`: one of JSON, any number of YAML's.

    A content type that names YAML is read as YAML, one that names JSON as JSON; any other (`curl -d` says
    `application/x-www-form-urlencoded`) as JSON when it is, else as YAML.
    """
    if len(data) > MAX_BYTES:
        raise TooLarge(f"The body has {len(data):,} bytes; at most {MAX_BYTES:,} are accepted.")
    if not data.strip():
        raise Malformed("The body is empty.", hint="Send a JSON or YAML document.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Malformed("The body is UTF-16.", hint="Save the file as UTF-8 and send it again.")
    data = data.removeprefix(b"\xef\xbb\xbf")  # what some editors write before UTF-8
    if "yaml" not in content_type:
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if "json" in content_type or data.lstrip()[:1] in (b"{", b"["):
                raise Malformed(f"The body is no valid JSON: {error}.", hint=_advice(data, error)) from None
        else:
            _check_depth(document)
            _check_keys(data)
            return [document]
    try:
        return _Builder().build(data.decode())
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8: byte {error.start}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        line = data.decode().split("\n")[mark.line : mark.line + 1] if mark else []
        hint = "Indent with spaces: YAML takes no tab." if line and re.match(r" *\t", line[0]) else None
        raise Malformed(f"The body is no valid YAML: {problem}{where}.", hint=hint) from None


def _advice(data: bytes, error: json.JSONDecodeError) -> str:
    """What to do about a body that is no JSON."""
    text = data.decode(errors="replace")
    if re.match(r"-?(NaN|Infinity)\b", text[error.pos :]) or "infinity" in error.msg:
        return "JSON has finite numbers only: leave the key out, or write null."
    if "UTF-8" in error.msg:
        return "Send the body as UTF-8, uncompressed."
    if "surrogate" in error.msg:
        return "A \\u escape from D800 to DFFF stands only in a pair."
    return "Check commas, quotes and brackets."


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise Malformed(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _check_keys(data: bytes) -> None:
    """Refuse a key that an object has twice (readers disagree on which one counts, RFC 8259, section 4) and the character
    NUL, which neither a command line nor PostgreSQL's JSON can hold."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise Malformed(f"The body is ambiguous: the key '{twice[:80]}' is there twice in one object.")
        return members

    # Numbers stay texts here: orjson has read them already, and int() of a long one is slow.
    document = json.loads(data, object_pairs_hook=unique, parse_int=str, parse_float=str)
    if b"\\u0000" in data:
        _refuse_nul(document)


def _refuse_nul(document: Any) -> None:
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, str) and "\0" in value:
            raise Malformed("The body holds a text with the character NUL (U+0000), which is not accepted.")


def _scalar(text: str) -> Any:
    """A plain scalar, by the core schema. Raises ValueError for a number that JSON cannot carry."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) < 400 else 1 << 64
        if not -(1 << 63) <= number < 1 << 64:
            raise ValueError(f"the number {text[:20]}... does not fit into 64 bits")
        return number
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text[:20]} is no finite number")
    return text


class _Builder:
    """Builds plain data from the parser's events without recursion."""

    def __init__(self) -> None:
        self.documents: list[Any] = []
        self.stack: list[tuple[Any, Any]] = []  # (container, pending key)
        self.anchors: dict[str, tuple[Any, int]] = {}  # value, how many values it expands to
        self.values = 0

    def build(self, text: str) -> list[Any]:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.ScalarEvent):
                plain = event.implicit[0] and not event.style
                if not plain and event.tag not in (None, "!", "tag:yaml.org,2002:str"):
                    self._fail(event, f"the tag '{event.tag}' is not accepted")
                if "\0" in event.value:
                    self._fail(event, "a text holds the character NUL (U+0000)")
                try:
                    value = _scalar(event.value) if plain else event.value
                except ValueError as error:
                    self._fail(event, str(error))
                self._count(event, 1)
                if event.anchor:
                    self.anchors[event.anchor] = (value, 1)
                self._add(event, value)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self.stack.pop()
                if not self.stack:
                    self.values = 0
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
        return self.documents

    def _open(self, event: Any) -> None:
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._fail(event, f"the tag '{event.tag}' is not accepted")
        if event.anchor:
            self._fail(event, "anchors are accepted on single values only")
        if len(self.stack) >= MAX_DEPTH:
            raise Malformed(f"The body is nested more than {MAX_DEPTH} levels deep.")
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._count(event, 1)
        self._add(event, value)
        self.stack.append((value, _NO_KEY))

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            self._fail(event, f"there is no anchor '&{event.anchor}'")
        value, size = self.anchors[event.anchor]
        self._count(event, size)
        self._add(event, value)

    def _add(self, event: Any, value: Any) -> None:
        if not self.stack:
            self.documents.append(value)
            return
        container, key = self.stack[-1]
        if isinstance(container, list):
            container.append(value)
        elif key is _NO_KEY:
            if isinstance(value, dict | list):
                self._fail(event, "a key must be a text")
            name = event.value if isinstance(event, yaml.ScalarEvent) else str(value)
            if name in container:
                self._fail(event, f"the key '{name}' is there twice")
            self.stack[-1] = (container, name)
        else:
            container[key] = value
            self.stack[-1] = (container, _NO_KEY)

    def _count(self, event: Any, size: int) -> None:
        self.values += size
        if self.values > MAX_VALUES:
            self._fail(event, f"more than {MAX_VALUES:,} values")

    @staticmethod
    def _fail(event: Any, problem: str) -> NoReturn:
        mark = event.start_mark
        raise Malformed(f"The body cannot be read: {problem} (line {mark.line + 1}, column {mark.column + 1}).")


_NO_KEY = object()
