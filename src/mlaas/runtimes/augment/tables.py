"""Enlarge a data set from file to file: CSV, TSV, JSON lines."""

import csv
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Exists, Invalid, NotFound
from mlaas.runtimes.augment.enlarge import augment

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Enlarged:
    """What was written: `rows` to `target`, of which `copies` are new; `test_rows` to `test`, when a test split was asked."""

    target: Path
    rows: int
    copies: int
    test: Path | None = None
    test_rows: int = 0


def augment_file(
    source: Path,
    target: Path,
    *,
    text_column: str = "text",
    label_column: str | None = "label",
    factor: float | None = None,
    size: int | None = None,
    seed: int = 0,
    abbreviate: bool = True,
    test_split: float | None = None,
    encoding: str = "utf-8",
) -> Enlarged:
    """Write the rows of `source` and their changed copies to `target`; a copy keeps the other columns of its row.

    The formats follow from the names: .csv, .tsv, .jsonl. `test_split` is a share (below 1) or a number of rows to set aside
    beforehand, stratified by label: they go unchanged to a file beside the target (`out.csv`: `out.test.csv`), equal
    texts together, and neither they nor anything made of them nor any text equal to one of them is in the target. Files
    appear whole or not at all. Raises `NotFound`, `Exists` and `Invalid`.
    """
    held = target.with_name(f"{target.stem}.test{target.suffix}") if test_split is not None else None
    for path in (target, held):
        if path is not None and path.exists():
            raise Exists(f"{path} is there already", field="target", hint="Remove it or give another name.")
    _format(target, "target")
    rows = list(read_rows(source, encoding=encoding))
    if not rows:
        raise Invalid(f"{source} holds no rows", field="source", hint="Give a file with a header and at least one row.")
    _require(rows[0], text_column, "text_column", source)
    if test_split is not None and label_column is not None:
        _require(rows[0], label_column, "label_column", source)
    texts = [row.get(text_column) for row in rows]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise Invalid(f"Row {i + 1} of {source} has no text in {text_column!r}", field=text_column)
    train, test = _split(rows, text_column, label_column, test_split, seed)
    exclude = {row[text_column] for row in test}
    copies, origin = augment(
        [row[text_column] for row in train],
        factor=factor,
        size=size,
        seed=seed,
        abbreviate=abbreviate,
        exclude=exclude,
    )

    def enlarged() -> Iterator[Row]:
        yield from train
        for copy, i in zip(copies, origin.tolist(), strict=True):
            yield {**train[i], text_column: copy}

    if held is not None:
        write_rows(held, test, encoding=encoding)
    write_rows(target, enlarged(), encoding=encoding)
    return Enlarged(target, len(train) + len(copies), len(copies), held, len(test))


def read_rows(path: Path, *, encoding: str = "utf-8") -> Iterator[Row]:
    """The rows of a CSV, TSV or JSON lines file as dictionaries. Errors name the line."""
    delimiter = _format(path, "source")
    try:
        stream = path.open(encoding=f"{encoding}-sig" if encoding == "utf-8" else encoding, newline="")
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}", field="source") from None
    with stream:
        try:
            yield from _read_json(stream, path) if delimiter is None else _read_csv(stream, path, delimiter)
        except UnicodeDecodeError as e:
            hint = "Convert it, or name its encoding (for example latin-1)."
            raise Invalid(
                f"{path} is not {encoding}: {e.reason} at byte {e.start}", field="source", hint=hint
            ) from None


def _read_csv(stream: Iterable[str], path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        for row in reader:
            if not row:
                continue
            if header is None or len(row) != len(header):
                raise Invalid(
                    f"Line {reader.line_num} of {path} has {len(row)} fields, the header {len(header or ())}",
                    field="source",
                    hint='A text that holds the delimiter stands in double quotes: "Bari, Italy".',
                )
            yield dict(zip(header, row, strict=True))
    except csv.Error as e:
        raise Invalid(f"Line {reader.line_num} of {path}: {e}", field="source") from None


def _read_json(stream: Iterable[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise Invalid(f"Line {number} of {path} is no JSON object", field="source", hint="One object on each line.")
        yield row


def write_rows(path: Path, rows: Iterable[Row], *, encoding: str = "utf-8") -> None:
    """Write rows to a CSV, TSV or JSON lines file, which appears whole or not at all."""
    delimiter = _format(path, "target")
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding=encoding, newline="") as stream:
            if delimiter is None:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            else:
                writer = None
                for row in rows:
                    if writer is None:
                        writer = csv.DictWriter(stream, list(row), delimiter=delimiter, lineterminator="\n")
                        writer.writeheader()
                    writer.writerow(row)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(path)
    except UnicodeEncodeError as e:
        raise Invalid(f"{e.object[e.start : e.end]!r} cannot be written as {encoding}", field="encoding") from None
    finally:
        aside.unlink(missing_ok=True)


def _format(path: Path, field: str) -> str | None:
    """The delimiter of a file by its name; None for JSON lines."""
    suffix = path.suffix.lower()
    if suffix in _JSON_LINES:
        return None
    if suffix not in _DELIMITERS:
        raise Invalid(f"{path} is neither CSV, TSV nor JSON lines", field=field, hint="Use .csv, .tsv or .jsonl.")
    return _DELIMITERS[suffix]


def _require(row: Row, column: str, field: str, path: Path) -> None:
    if column not in row:
        found = ", ".join(map(str, row))
        raise Invalid(f"{path} has no column {column!r}; it has: {found}", field=field, hint=f"Name one of: {found}.")


def _split(
    rows: list[Row], text: str, label: str | None, share: float | None, seed: int
) -> tuple[list[Row], list[Row]]:
    """Training and test rows. Equal texts stay together; the order of the rows decides nothing."""
    if share is None:
        return rows, []
    if not 0 < share < len(rows):
        raise Invalid(
            f"A test split of {share} of {len(rows)} rows leaves nothing to train or test", field="test_split"
        )
    share = share if share < 1 else share / len(rows)
    strata: dict[Any, set[str]] = defaultdict(set)
    seen: set[str] = set()
    for row in rows:
        if row[text] not in seen:
            seen.add(row[text])
            strata[str(row[label]) if label else None].add(row[text])

    def rank(value: str) -> bytes:
        return hashlib.blake2b(f"split\0{seed}\0{value}".encode("utf-8", "surrogatepass"), digest_size=8).digest()

    test: set[str] = set()
    owed = 0.0  # small strata share the test rows that are due to them
    for _, members in sorted(strata.items(), key=lambda item: str(item[0])):
        owed += share * len(members)
        count = min(round(owed), len(members) - 1 if len(members) > 1 else 1)
        owed -= count
        test.update(sorted(members, key=rank)[:count])
    if not test or len(test) == len(seen):
        raise Invalid("The test split leaves no row on one side", field="test_split", hint="Give another share.")
    return [row for row in rows if row[text] not in test], [row for row in rows if row[text] in test]
