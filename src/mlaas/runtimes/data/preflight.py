"""What is wrong with a data set on this disk, as far as its text says it: found before a task is accepted.

Pure: read by the standard library, with the checks and words of the recipes. Data sets of up to `WHOLE` bytes are read whole,
of larger ones the beginning of each file; Parquet, Arrow and what only pyarrow decompresses are left to the recipe. Reading
ends after `SECONDS`, and what was not seen by then counts as good.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlaas.runtimes.data import delimited, files, holdout, json_rows, lines, roles, streams
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.roles import Facts
from mlaas.runtimes.data.spec import DatasetSource

WHOLE = 16 << 20
HEAD = 1 << 20
SECONDS = 1.0
_ENTRIES = 2000  # of a folder; a larger one is left to the recipe
_TEXTUAL = frozenset({"csv", "tsv", "jsonl", "json", "text"})
INDEX = "index"

Allowed = Callable[[Path], bool]
Key = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Purpose:
    """What the rows are for: `objective` is the one that is trained, or `INDEX`. `head` are the labels that the model knows
    already, `weighted` those that are weighed."""

    objective: str
    head: tuple[str, ...] | None = None
    weighted: tuple[str, ...] = ()


def check(path: Path, source: DatasetSource, purpose: Purpose, allowed: Allowed) -> None:
    """`allowed` says whether a real path may be read: a data set with links to elsewhere is left to the recipe. Blocking, for
    about `SECONDS` at most.

    Raises Invalid and NotFound as `read.load` and the objectives do, for the first thing that is wrong. What was found good is
    not read again until it changes.
    """
    if path.is_dir() and not _few(path):
        return
    found = files.find(path, source.format)
    if not all(allowed(Path(os.path.realpath(file.path))) for file in found):
        return
    status = [file.path.stat() for file in found]
    key: Key = tuple((entry.st_size, entry.st_mtime_ns, entry.st_ino) for entry in status)
    _passed(tuple(found), key, source.model_dump_json(), purpose, path.name)


def _few(folder: Path) -> bool:
    count = 0
    for _, folders, names in os.walk(folder):
        count += len(folders) + len(names)
        if count > _ENTRIES:
            return False
    return True


@lru_cache(maxsize=512)
def _passed(found: tuple[DataFile, ...], key: Key, source: str, purpose: Purpose, shown: str) -> None:
    """Of files as they are at these sizes and times; what raises is not remembered."""
    wanted = DatasetSource.model_validate_json(source)
    holdout.wanted(list(dict.fromkeys(file.split for file in found)), wanted.split)
    size = sum(entry[0] for entry in key)
    deadline = time.monotonic() + SECONDS
    read = [need.role for need in roles.NEEDS.get(purpose.objective, ())] or ["page_content", "text"]
    seen = _Seen(roles.names(wanted, read))
    for file in found:
        budget = streams.Budget(
            2 * WHOLE if size <= WHOLE else HEAD, deadline
        )  # its first lines are read up to three times
        try:
            seen.read(replace(file, budget=budget), wanted)
        except streams.Enough:
            seen.whole = False
    seen.judge(wanted, purpose, shown)


@dataclass(slots=True)
class _Column:
    """The values of a column of one split. `kinds` are the types of JSON; in CSV all are text, and `numbers` says whether they
    would do as numbers."""

    kinds: set[str] = field(default_factory=set)
    numbers: str | None = "unseen"
    nulls: int = 0
    first_null: int = 0
    empty: int = 0
    first_empty: int = 0
    blank: int = 0
    values: set[str] = field(default_factory=set)

    def see(self, value: Any, row: int) -> None:
        if value is None:
            self.nulls += 1
            self.first_null = self.first_null or row
            return
        if isinstance(value, str):
            self.kinds.add(roles.TEXT)
            if not value:
                self.empty += 1
                self.first_empty = self.first_empty or row
            if not value or value.isspace():
                self.blank += 1
        else:
            self.kinds.add(_WORDS.get(type(value), "values"))
        if len(self.values) < _DISTINCT and isinstance(value, str | int):
            self.values.add(str(value))

    def see_cell(self, cell: str, row: int) -> None:
        self.see(cell, row)
        if self.numbers is not None and cell:
            self.numbers = _number(cell, self.numbers)


_DISTINCT = 1000
_WORDS: dict[type, str] = {
    bool: "true/false", int: roles.WHOLE, float: roles.FRACTION, list: "lists", dict: "objects",
}  # fmt: skip
_INTEGER, _NUMBER = re.compile(roles.INTEGER), re.compile(roles.NUMBER)


def _number(cell: str, before: str) -> str | None:
    """Whether a column is one of numbers, with this cell."""
    if before in ("unseen", roles.WHOLE) and _INTEGER.match(cell):
        return roles.WHOLE
    return roles.FRACTION if _NUMBER.match(cell) else None


class _Seen:
    """What was read so far: for each split its rows and columns, the values of those that are `read` alone; `whole` while
    nothing was left out."""

    def __init__(self, read: set[str]) -> None:
        self.roles = read
        self.whole = True
        self.opaque = False  # some files cannot be read here at all
        self.cells = False
        self.rows: dict[str, int] = {}
        self.columns: dict[str, dict[str, _Column]] = {}

    def read(self, file: DataFile, source: DatasetSource) -> None:
        """Raises Invalid for what cannot be read as it should."""
        self.rows.setdefault(file.split, 0)
        columns = self.columns.setdefault(file.split, {})
        if file.format not in _TEXTUAL or file.compression not in streams.PLAIN:
            self.whole, self.opaque = False, True
        elif file.path.stat().st_size == 0:
            return
        elif file.format in ("csv", "tsv"):
            self._cells(file, source, columns)
        elif file.format == "text":
            self._objects(file.split, columns, ((n, {"text": line}) for n, line in lines.text(file, source)), None)
        elif file.format == "jsonl":
            self._objects(file.split, columns, lines.json_lines(file, source), lines.Kinds(file, "line"))
        else:
            unit = json_rows.unit(file, source)
            self._objects(file.split, columns, json_rows.rows(file, source), lines.Kinds(file, unit))

    def _cells(self, file: DataFile, source: DatasetSource, columns: dict[str, _Column]) -> None:
        found = delimited.layout(file, source)
        if found is None:
            return
        self.cells = True
        for name in found.names:
            columns.setdefault(name, _Column())
        read = [(i, columns[name]) for i, name in enumerate(found.names) if name in self.roles]
        row = self.rows[file.split]
        try:
            for _, cells in delimited.rows(file, found):
                row += 1
                for i, column in read:
                    column.see_cell(cells[i], row)
        finally:
            self.rows[file.split] = row

    def _objects(
        self, split: str, columns: dict[str, _Column], found: Iterable[tuple[int, lines.Row]], kinds: lines.Kinds | None
    ) -> None:
        for number, row in found:
            self.rows[split] += 1
            if kinds is not None:
                kinds.see(row, number)
            for name in row:
                if name not in columns:
                    columns[name] = _Column(nulls=self.rows[split] - 1, first_null=1 if self.rows[split] > 1 else 0)
            for name in self.roles & columns.keys():
                columns[name].see(row.get(name), self.rows[split])

    def judge(self, source: DatasetSource, purpose: Purpose, shown: str) -> None:
        """Raises Invalid for columns, labels or a split that cannot be used."""
        splits = holdout.wanted(list(self.rows), source.split)
        if self.opaque:
            return
        rows = {split: self.rows[split] for split in splits}
        filled = holdout.filled(rows, shown) if self.whole else [split for split in splits if self.columns[split]]
        if purpose.objective == INDEX:
            self._judge_documents(filled, source)
            return
        for split in filled:
            names = list(self.columns[split])
            for need, name in roles.chosen(names, source, purpose.objective):
                if need.values == "text":
                    roles.check_text(name, self._facts(split, name, label=False), need.field)
                elif need.values == "label":
                    roles.check_labels(name, self._facts(split, name, label=True), need.field)
        if filled:
            self._judge_labels(filled, source, purpose)
        if self.whole:
            train, held_out = holdout.parts(filled)
            if held_out is None or source.train_test_split is not None:
                holdout.test_rows(self.rows[train], source.train_test_split or holdout.DEFAULT)

    def _judge_labels(self, filled: list[str], source: DatasetSource, purpose: Purpose) -> None:
        found: set[str] = set()
        for split in filled:
            for need, name in roles.chosen(list(self.columns[split]), source, purpose.objective):
                if need.values == "label":
                    found |= self.columns[split][name].values
        labels = sorted(found, key=roles.natural)
        if purpose.objective == "text-classification":
            if self.whole:
                roles.check_classes(labels)
            roles.check_head(labels, purpose.head)
            if self.whole and len(labels) < _DISTINCT:
                roles.check_weights(purpose.weighted, purpose.head or labels)
        elif purpose.objective == "next-sentence-prediction":
            for label in labels:
                roles.next_sentence(label)

    def _judge_documents(self, filled: list[str], source: DatasetSource) -> None:
        names = list(dict.fromkeys(name for split in filled for name in self.columns[split]))
        role = "page_content" if source.text_column is None else "text"
        if not filled or not (self.whole or self.cells or roles.has(names, source, role)):
            return  # later rows of JSON may have the column
        name = roles.name(names, source, role)
        here = [split for split in filled if name in self.columns[split]]
        if self.whole:
            missing = sum(self.rows[split] for split in filled if split not in here)
            missing += sum(self.columns[split][name].nulls + self.columns[split][name].blank for split in here)
            roles.check_documents(name, missing, sum(self.rows[split] for split in filled), names)
        for split in here:
            facts = self._facts(split, name, label=False)
            if facts.kind != roles.NOTHING:  # rows without a text are left out
                roles.check_text(name, Facts(facts.kind), "dataset.loader_kwargs.page_content_column")

    def _facts(self, split: str, name: str, *, label: bool) -> Facts:
        column = self.columns[split][name]
        kind = self._kind(name)
        missing = list(_missing(column, empty=label or (self.cells and kind != roles.TEXT)))
        return Facts(kind, sum(count for count, _ in missing), min((first for _, first in missing), default=0))

    def _kind(self, name: str) -> str:
        """Of a column over all splits, as the tables have it; a cell of CSV may turn out to be no number in what was not read."""
        parts = [columns[name] for columns in self.columns.values() if name in columns]
        kinds = set().union(*(part.kinds for part in parts))
        if self.cells:
            numbers = {part.numbers for part in parts} - {"unseen"}
            if not self.whole or not numbers or None in numbers:
                return roles.TEXT
            return roles.FRACTION if roles.FRACTION in numbers else roles.WHOLE
        if kinds == {roles.WHOLE, roles.FRACTION}:
            return roles.FRACTION
        if not kinds:
            return roles.NOTHING if self.whole else roles.TEXT
        return next(iter(kinds)) if len(kinds) == 1 else roles.TEXT


def _missing(column: _Column, *, empty: bool) -> Iterator[tuple[int, int]]:
    if column.nulls:
        yield column.nulls, column.first_null
    if empty and column.empty:
        yield column.empty, column.first_empty
