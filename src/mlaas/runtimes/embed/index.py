"""The recipe `index`: embed a column of a data set, keep the vectors with the other columns as metadata.

Vectors go to `checkpoints/` as they are made: an interrupted attempt goes on behind the last whole block.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlaas.runtimes.child import stopping
from mlaas.runtimes.commit import check_target, commit
from mlaas.runtimes.data import roles
from mlaas.runtimes.data.columns import column, texts
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.data.read import load
from mlaas.runtimes.embed import documents, faiss_index, layout, store
from mlaas.runtimes.embed.encoder import Encoder, Vectors
from mlaas.runtimes.embed.spec import IndexParams
from mlaas.runtimes.report import Reporter
from mlaas.runtimes.taskfile import CHECKPOINTS, Interrupted, TaskFile

BLOCKS = 32  # batches a block: sorted by length, saved, reported together
TARGET = "vector_store_save"


def main(task: TaskFile) -> dict[str, Any]:
    """`{index: {vectors, dimension, kind, metric}, output: {uri, hash}, warnings?}`. One row is one document."""
    params = IndexParams.model_validate(task.params)
    done = check_target(task, TARGET)
    record = Path(CHECKPOINTS) / "result.json"
    if done is not None and record.is_file():  # committed by an attempt that could not say so any more
        return {**json.loads(record.read_text()), "output": done}
    faiss_index.threads(task.cores)
    table, content, warnings = _documents(task, params)
    tokenizer = fetch(task, "tokenizer") if "tokenizer" in task.inputs else None
    encoder = Encoder(fetch(task, "model"), tokenizer, cores=task.cores)
    vectors, truncated = _embed(task, encoder, table.column(content), params.batch_size)
    if truncated:
        warnings.append(
            f"{truncated} of {table.num_rows} documents are longer than the model's {encoder.max_length} tokens: "
            "only their beginnings are embedded."
        )
    kind = faiss_index.choose(params.vector_store_save.kind if params.vector_store_save else "auto", len(vectors))
    index = faiss_index.build(kind, vectors)

    def write(folder: Path) -> None:
        faiss_index.write(index, folder / layout.INDEX)
        writer = documents.Writer(folder / layout.DOCUMENTS, table.schema, content)
        for batch in table.to_batches(max_chunksize=8192):
            writer.write(pa.Table.from_batches([batch]))
        writer.close()
        store.write_manifest(folder, _manifest(task, params, encoder, table, content, kind))

    result: dict[str, Any] = {
        "index": {"vectors": len(vectors), "dimension": encoder.dimension, "kind": kind, "metric": "l2"}
    }
    if warnings:
        result["warnings"] = warnings
    _replace(record, result)
    return {**result, "output": commit(task, TARGET, write)}


def _documents(task: TaskFile, params: IndexParams) -> tuple[pa.Table, str, list[str]]:
    """(the rows that have a text, the content's column, warnings). All splits, unless one is named."""
    tables = load(fetch(task, "dataset"), params.dataset, Path(task.cache or "cache"))
    table = pa.concat_tables(tables.values(), promote_options="permissive")
    role = "page_content" if params.dataset.text_column is None else "text"
    name = column(table, params.dataset, role)
    position = table.column_names.index(name)
    values = table.column(name)
    empty = pc.is_null(values)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        empty = pc.or_kleene(empty, pc.equal(pc.utf8_trim_whitespace(values), ""))
    warnings = []
    if missing := pc.sum(empty).as_py():
        roles.check_documents(name, missing, table.num_rows, table.column_names)
        table = table.filter(pc.invert(empty))
        warnings.append(f"{missing} rows without text are left out.")
    checked = texts(table, name, "dataset.loader_kwargs.page_content_column")
    return table.set_column(position, name, checked), name, warnings


def _embed(task: TaskFile, encoder: Encoder, values: pa.ChunkedArray, batch_size: int) -> tuple[Vectors, int]:
    """(vectors, memory-mapped; how many texts were truncated)."""
    count = len(values)
    progress = _Checkpoint(task, encoder, count, batch_size)
    done, truncated = progress.done, progress.truncated
    with Reporter() as reporter:
        reporter.progress(done, count, "documents")
        for block in _blocks(values, done, BLOCKS * batch_size):
            if stopping():
                raise Interrupted
            vectors, cut = encoder.encode(block, role="document", batch_size=batch_size)
            progress.vectors[done : done + len(block)] = vectors
            done, truncated = done + len(block), truncated + cut
            progress.save(done, truncated)
            reporter.progress(done, count, "documents")
    return progress.vectors, truncated


def _blocks(values: pa.ChunkedArray, start: int, size: int) -> Iterator[list[str]]:
    for position in range(start, len(values), size):
        yield values.slice(position, size).to_pylist()


class _Checkpoint:
    """`vectors.npy` and how much of it is whole, for the same model and data set."""

    def __init__(self, task: TaskFile, encoder: Encoder, count: int, batch_size: int) -> None:
        folder = Path(CHECKPOINTS)
        folder.mkdir(exist_ok=True)
        self._state = folder / "vectors.json"
        path = folder / "vectors.npy"
        made_of = {name: task.inputs[name].hash or task.inputs[name].uri for name in sorted(task.inputs)}
        dataset = task.params["dataset"]
        made_of_all = [made_of, dataset, count, encoder.dimension, batch_size]
        self._key = hashlib.sha256(json.dumps(made_of_all, sort_keys=True, default=str).encode()).hexdigest()
        self.done, self.truncated = self._restore() if path.is_file() else (0, 0)
        mode = "r+" if self.done else "w+"
        shape = None if self.done else (count, encoder.dimension)
        self.vectors: Vectors = np.lib.format.open_memmap(path, mode=mode, dtype=np.float32, shape=shape)

    def _restore(self) -> tuple[int, int]:
        try:
            state = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return 0, 0
        return (int(state["done"]), int(state["truncated"])) if state.get("key") == self._key else (0, 0)

    def save(self, done: int, truncated: int) -> None:
        self.vectors.flush()  # type: ignore[attr-defined]
        _replace(self._state, {"key": self._key, "done": done, "truncated": truncated})


def _replace(path: Path, document: dict[str, Any]) -> None:
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(document))
    os.replace(aside, path)


def _manifest(
    task: TaskFile, params: IndexParams, encoder: Encoder, table: pa.Table, content: str, kind: str
) -> dict[str, Any]:
    given = task.inputs["model"]
    return {
        "model": {"path": params.model.path, "storage_type": params.model.storage_type, "hash": given.hash},
        "dataset": {"path": params.dataset.path, "hash": task.inputs["dataset"].hash},
        "vectors": table.num_rows,
        "dimension": encoder.dimension,
        "metric": "l2",
        "kind": kind,
        "pooling": {"mode": encoder.pooling.name, "normalize": encoder.pooling.normalize},
        "max_length": encoder.max_length,
        "content_column": content,
        "metadata_columns": [name for name in table.column_names if name != content],
        "versions": {name: version(name) for name in ("faiss-cpu", "torch", "transformers", "pyarrow")},
    }
