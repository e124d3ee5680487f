"""A vector store: a folder with vectors and the documents they stand for.

    index.faiss          the FAISS index
    documents.arrow      one row a vector: the content and the metadata columns (Arrow IPC, memory-mapped)
    vector_store.json    what they are: model, dimension, metric, pooling, kind, counts, versions

A folder written by LangChain (`index.faiss` and `index.pkl`) is read too; see `langchain`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlaas.kernel.errors import Invalid, NotFound
from mlaas.runtimes.embed import faiss_index, langchain
from mlaas.runtimes.embed.documents import Documents, Listed, Mapped

INDEX = "index.faiss"
DOCUMENTS = "documents.arrow"
MANIFEST = "vector_store.json"
LANGCHAIN = "index.pkl"
FORMAT = "mlaas-vector-store"
VERSION = 1
_FIELD = "dataset.path"

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` is FAISS's squared L2 distance (lower is better), as LangChain shows it; for an inner-product index of
    LangChain's it is the inner product (higher is better)."""

    content: str
    metadata: dict[str, Any]
    score: float

    def dump(self) -> dict[str, Any]:
        return {"content": self.content, "metadata": self.metadata, "score": self.score}


class VectorStore:
    """Opened once, searched many times. `manifest` is that of the folder (of a LangChain folder: what is known of it).

    Raises NotFound for a missing folder and Invalid (field `dataset.path`) for one that is no vector store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        _check(self.folder)
        self.index = faiss_index.read(self.folder / INDEX)
        self.documents, self.manifest = self._open()
        if len(self.documents) != self.index.ntotal:
            raise Invalid(
                f"{self.folder.name} is damaged: {self.index.ntotal} vectors, {len(self.documents)} documents.",
                field=_FIELD,
                hint="Build the store anew.",
            )
        if self.index.ntotal == 0:
            raise Invalid(f"{self.folder.name} holds no vector.", field=_FIELD, hint="Build the store anew.")

    def _open(self) -> tuple[Documents, dict[str, Any]]:
        if (self.folder / MANIFEST).is_file():
            try:
                manifest = json.loads((self.folder / MANIFEST).read_text())
                if manifest["format"] != FORMAT or manifest["version"] > VERSION:
                    raise ValueError(f"format {manifest['format']} {manifest['version']} is not known")
                return Mapped(self.folder / DOCUMENTS), manifest
            except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
                raise Invalid(
                    f"The vector store {self.folder.name} is damaged: {error}.",
                    field=_FIELD,
                    hint="Build the store anew.",
                ) from error
        contents, metadata = langchain.read(self.folder / LANGCHAIN, self.index.ntotal)
        return Listed(contents, metadata), {"format": "langchain"}

    @property
    def dimension(self) -> int:
        return int(self.index.d)

    def summary(self) -> dict[str, Any]:
        """`{vectors, dimension, kind, metric}` as answers carry it."""
        return {
            "vectors": int(self.index.ntotal),
            "dimension": self.dimension,
            "kind": faiss_index.kind_of(self.index),
            "metric": faiss_index.metric_of(self.index),
        }

    def search(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The nearest min(k, count) documents of each vector, nearest first; `vectors`: (queries, dimension)."""
        scores, rows = faiss_index.search(self.index, vectors, min(k, self.index.ntotal))
        found = rows >= 0
        documents = iter(self.documents.take(rows[found].tolist()))
        values = scores.astype(float).tolist()
        return [
            [Hit(*next(documents), values[i][j]) for j in np.flatnonzero(found[i])]  # in the order of rows[found]
            for i in range(len(rows))
        ]


def write_manifest(folder: Path, values: dict[str, Any]) -> None:
    document = {"format": FORMAT, "version": VERSION, **values}
    (folder / MANIFEST).write_text(json.dumps(document, indent=2) + "\n")


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise NotFound(
            f"There is no vector store at {folder}.",
            field=_FIELD,
            hint="Check the path; relative paths start at the first local root. A task with vector_store_save builds one.",
        )
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if INDEX not in names or not {MANIFEST, LANGCHAIN} & set(names):
        raise Invalid(
            f"{folder.name} is no vector store. Found: {_listed(names)}.",
            field=_FIELD,
            hint=f"A vector store has {INDEX} and {MANIFEST} (or {LANGCHAIN}, from LangChain).",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) or "nothing"
