"""The bytes and the text of data files, decompressed, and what is said of those that are in another encoding.

Nothing here needs a framework, except zstd and lz4 (pyarrow reads those).
"""

import bz2
import codecs
import gzip
import io
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from mlaas.kernel.errors import Invalid

_OPENERS: dict[str | None, Callable[[Path, Literal["rb"]], Any]] = {None: open, "gzip": gzip.open, "bz2": bz2.open}
PLAIN = frozenset(_OPENERS)
"""Compressions that are read without pyarrow."""
FIELD = "dataset.loader_kwargs.encoding"
_BUFFER = 1 << 16


class Enough(Exception):
    """A budget is used up: what was not read yet stays unread."""


@dataclass(slots=True)
class Budget:
    """How many bytes (decompressed) may be read, and until when on the monotonic clock."""

    left: int
    deadline: float

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0 or time.monotonic() > self.deadline:
            raise Enough


class _Watched(io.RawIOBase):
    """A stream that ends with `Enough` when its budget does, and says what is damaged."""

    def __init__(self, stream: BinaryIO, name: str, budget: Budget | None) -> None:
        self._stream, self._name, self._budget = stream, name, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise damaged(self._name, error) from error
        if self._budget is not None:
            self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def damaged(name: str, error: Exception) -> Invalid:
    """The error for an archive that cannot be decompressed."""
    return Invalid(
        f"{name} cannot be decompressed: {error}.", field="dataset.path", hint="Check that it was copied whole."
    )


def raw(path: Path, compression: str | None, budget: Budget | None = None) -> BinaryIO:
    """The content, decompressed; with a budget, reading raises `Enough` beyond it. Raises Invalid for a damaged archive."""
    if compression is None and budget is None:
        return path.open("rb")
    stream: Any
    if compression in _OPENERS:
        stream = _OPENERS[compression](path, "rb")
    else:
        import pyarrow as pa

        stream = io.BufferedReader(pa.input_stream(str(path), compression=compression))
    return cast(BinaryIO, io.BufferedReader(_Watched(stream, path.name, budget), _BUFFER))


def text(stream: BinaryIO, encoding: str) -> io.TextIOWrapper:
    """A stream as text with its line ends as they are; a byte order mark is dropped."""
    name = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    return io.TextIOWrapper(stream, encoding=name, newline="")


def known_encoding(encoding: str) -> None:
    """Raises Invalid for an encoding of texts that Python does not have."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    except (LookupError, ValueError) as error:
        raise Invalid(
            f"There is no encoding {encoding[:80]!r}.",
            field=FIELD,
            hint="Usual ones are utf-8, cp1252, latin-1 and utf-16.",
        ) from error


def undecodable(path: Path, name: str, compression: str | None, encoding: str) -> Invalid:
    """The error for bytes that are not in the encoding said: where, and in which they may be."""
    with raw(path, compression) as stream:
        head = stream.read(4)
    guess: str | None = "utf-16"
    line = 1
    if head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        line, bad = _bad_line(path, compression, encoding)
        guess = _guess(bad, encoding)
    return Invalid(
        f"{name}, line {line}: not {encoding}" + (f"; it looks like {guess}." if guess else "."),
        field=FIELD,
        hint=f'Say so with "loader_kwargs": {{"encoding": "{guess or "cp1252"}"}}, or convert the file to utf-8.',
    )


def _bad_line(path: Path, compression: str | None, encoding: str) -> tuple[int, bytes]:
    with raw(path, compression) as stream:
        line = 0
        for line, content in enumerate(stream, 1):
            try:
                content.decode(encoding)
            except UnicodeError:
                return line, content
    return max(line, 1), b""


def _guess(content: bytes, encoding: str) -> str | None:
    for candidate in ("utf-8", "cp1252", "latin-1"):
        if codecs.lookup(candidate).name == codecs.lookup(encoding).name:
            continue
        try:
            content.decode(candidate)
        except UnicodeError:
            continue
        return candidate
    return None
