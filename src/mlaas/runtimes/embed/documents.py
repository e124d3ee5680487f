"""The documents of a vector store: a content and its metadata by row number."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

Document = tuple[str, dict[str, Any]]
CONTENT = "mlaas.content"  # the key of the file's metadata that names the content's column


class Documents(ABC):
    """As many as the index has vectors, in the same order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: Sequence[int]) -> list[Document]:
        """(content, metadata) for each row number; metadata is what JSON can hold."""


class Listed(Documents):
    """Documents in memory, as a LangChain folder holds them."""

    def __init__(self, contents: list[str], metadata: list[dict[str, Any]]) -> None:
        self._contents = contents
        self._metadata = metadata

    def __len__(self) -> int:
        return len(self._contents)

    def take(self, rows: Sequence[int]) -> list[Document]:
        return [(self._contents[row], self._metadata[row]) for row in rows]


class Mapped(Documents):
    """Documents in an Arrow IPC file, memory-mapped. Raises pyarrow's errors for a file that is none."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            self._table = pa.ipc.open_file(source).read_all()
        self.content = (self._table.schema.metadata or {})[CONTENT.encode()].decode()
        if self.content not in self._table.column_names:
            raise pa.ArrowInvalid(f"there is no column {self.content!r}")

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def take(self, rows: Sequence[int]) -> list[Document]:
        found = self._table.take(pa.array(rows, pa.int64())).to_pylist()
        return [(row.pop(self.content), {name: plain(value) for name, value in row.items()}) for row in found]


def plain(value: Any) -> Any:
    """A cell as JSON can hold it: times in ISO 8601, decimals and durations as text and seconds, bytes in hexadecimal."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


class Writer:
    """Writes the file that `Mapped` reads, batch by batch."""

    def __init__(self, path: Path, schema: pa.Schema, content: str) -> None:
        self._schema = schema.with_metadata({CONTENT: content})
        self._writer = pa.ipc.new_file(str(path), self._schema)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table.replace_schema_metadata(self._schema.metadata))

    def close(self) -> None:
        self._writer.close()
