"""Tokenised rows as memory-mapped arrays: written in a stream, read without loading.

A set is a folder of raw arrays (`NAME.bin`) and `set.json`. *Sequences* have one value a token (`input_ids`, word labels),
*scalars* one value a row (a label). Sequences of one *group* have the same lengths and share one `GROUP.ends.bin`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlaas.runtimes.transformers.processing import arrays


@dataclass(frozen=True, slots=True)
class Column:
    """`pad` is the value that fills a batch up to its longest row; None for the tokenizer's padding token."""

    dtype: str
    pad: int | None = 0
    group: str = "tokens"


class TokenWriter:
    """Appends rows; the set is complete when the context ends without an error."""

    def __init__(self, folder: Path, sequences: Mapping[str, Column], scalars: Mapping[str, str]) -> None:
        self.folder, self.sequences, self.scalars = folder, sequences, scalars
        self.rows = self.tokens = 0
        self._files: dict[str, BinaryIO] = {}
        self._ends: dict[str, int] = {}

    def __enter__(self) -> "TokenWriter":
        self.folder.mkdir(parents=True)
        groups = {f"{column.group}.ends" for column in self.sequences.values()}
        for name in (*self.sequences, *self.scalars, *groups):
            self._files[name] = (self.folder / f"{name}.bin").open("wb")
        self._ends = dict.fromkeys((column.group for column in self.sequences.values()), 0)
        return self

    def append(self, rows: Mapping[str, Sequence[Any]]) -> None:
        """One batch of rows: for a sequence a list of arrays or lists, for a scalar a list of values."""
        written: set[str] = set()
        for name, column in self.sequences.items():
            values = [np.asarray(value, dtype=column.dtype) for value in rows[name]]
            if values:
                self._files[name].write(np.concatenate(values).tobytes())
            if column.group not in written:
                written.add(column.group)
                lengths = np.array([len(value) for value in values], dtype=np.int64)
                ends = self._ends[column.group] + np.cumsum(lengths)
                self._files[f"{column.group}.ends"].write(ends.astype(np.int64).tobytes())
                self._ends[column.group] += int(lengths.sum())
                self.tokens += int(lengths.sum())
        for name, dtype in self.scalars.items():
            self._files[name].write(np.asarray(rows[name], dtype=dtype).tobytes())
        self.rows += len(rows["input_ids"])

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is None:
            document = {
                "rows": self.rows,
                "tokens": self.tokens,
                "sequences": {n: [c.dtype, c.pad, c.group] for n, c in self.sequences.items()},
                "scalars": dict(self.scalars),
            }
            (self.folder / "set.json").write_text(json.dumps(document))


class TokenSet:
    """Random access to the rows of a folder that a `TokenWriter` wrote."""

    def __init__(self, folder: Path) -> None:
        document = json.loads((folder / "set.json").read_text())
        self.rows: int = document["rows"]
        self.tokens: int = document["tokens"]
        self.columns = {name: Column(*fields) for name, fields in document["sequences"].items()}
        self._flat = {name: _map(folder / f"{name}.bin", column.dtype) for name, column in self.columns.items()}
        self._ends = {c.group: _map(folder / f"{c.group}.ends.bin", "int64") for c in self.columns.values()}
        self.scalars = {name: _map(folder / f"{name}.bin", dtype) for name, dtype in document["scalars"].items()}

    def lengths(self, group: str = "tokens") -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return np.diff(self._ends[group], prepend=0)

    def sequence(self, name: str, row: int) -> NDArray[Any]:
        """The values of a row, in the file's own memory."""
        ends = self._ends[self.columns[name].group]
        return self._flat[name][int(ends[row - 1]) if row else 0 : int(ends[row])]

    def flat(self, name: str) -> NDArray[Any]:
        """All values of a sequence, row after row."""
        return self._flat[name]

    def batch(self, rows: NDArray[np.integer], padding: int, multiple: int = 1) -> dict[str, NDArray[Any]]:
        """Rectangles of the sequences (n, longest), the scalars (n,), and `GROUP.mask` (n, longest) of 1 for tokens."""
        out: dict[str, NDArray[Any]] = {}
        for name, column in self.columns.items():
            values = [self.sequence(name, int(row)) for row in rows]
            pad = padding if column.pad is None else column.pad
            out[name] = arrays.pad(values, pad, column.dtype, multiple)
            if f"{column.group}.mask" not in out:
                lengths = np.array([len(value) for value in values], dtype=np.int64)
                out[f"{column.group}.mask"] = arrays.mask(lengths, out[name].shape[1])
        for name, scalar in self.scalars.items():
            out[name] = np.asarray(scalar[rows])
        return out


def _map(path: Path, dtype: str) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
