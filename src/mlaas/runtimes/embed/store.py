"""A vector store, opened and searched. Its folder is described in `layout`; one written by LangChain is read too."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.embed import faiss_index, langchain, layout
from mlaas.runtimes.embed.documents import Documents, Listed, Mapped
from mlaas.runtimes.embed.layout import DOCUMENTS, FIELD, FORMAT, INDEX, LANGCHAIN, MANIFEST, VERSION

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
        self.manifest = layout.check(self.folder)
        self.index = faiss_index.read(self.folder / INDEX)
        self.documents = self._open()
        if len(self.documents) != self.index.ntotal:
            raise Invalid(
                f"{self.folder.name} is damaged: {self.index.ntotal} vectors, {len(self.documents)} documents.",
                field=FIELD,
                hint="Build the store anew.",
            )
        if self.index.ntotal == 0:
            raise Invalid(f"{self.folder.name} holds no vector.", field=FIELD, hint="Build the store anew.")

    def _open(self) -> Documents:
        if self.manifest["format"] == FORMAT:
            try:
                return Mapped(self.folder / DOCUMENTS)
            except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
                raise layout.damaged(self.folder.name, error) from error
        return Listed(*langchain.read(self.folder / LANGCHAIN, self.index.ntotal))

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
