"""The recipe `search`: the nearest documents of a vector store for each text."""

from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.embed import faiss_index
from mlaas.runtimes.embed.encoder import Encoder
from mlaas.runtimes.embed.searcher import Searcher
from mlaas.runtimes.embed.spec import SearchParams
from mlaas.runtimes.embed.store import VectorStore
from mlaas.runtimes.taskfile import TaskFile


def main(task: TaskFile) -> dict[str, Any]:
    """`{results: [[{content, metadata, score}, ...], ...], index: {vectors, dimension, kind, metric}, warnings?}`.

    The score is FAISS's squared L2 distance: lower is better. A k above the number of documents gives them all.
    """
    params = SearchParams.model_validate(task.params)
    if params.dataset.format not in (None, "vector_store"):
        raise Invalid(
            f"A search reads a vector store, not {params.dataset.format}.",
            field="dataset.format",
            hint="Write format: vector_store, or leave it out.",
        )
    faiss_index.threads(task.cores)
    opened = VectorStore(fetch(task, "dataset"))
    tokenizer = fetch(task, "tokenizer") if "tokenizer" in task.inputs else None
    encoder = Encoder(fetch(task, "model"), tokenizer, cores=task.cores)
    searcher = Searcher(encoder, opened, model_hash=task.inputs["model"].hash)
    hits, truncated = searcher.search(params.search_input.input_text, params.search_input.k)
    warnings = list(searcher.warnings)
    if truncated:
        warnings.append(
            f"{truncated} of {len(hits)} texts are longer than the model's {encoder.max_length} tokens: "
            "only their beginnings are searched for."
        )
    result: dict[str, Any] = {"results": [[hit.dump() for hit in found] for found in hits], "index": opened.summary()}
    return {**result, "warnings": warnings} if warnings else result
