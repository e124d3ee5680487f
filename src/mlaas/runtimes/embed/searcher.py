"""Search by meaning: a model and a vector store, loaded once, asked many times."""

from collections.abc import Sequence

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.embed.encoder import Encoder
from mlaas.runtimes.embed.store import Hit, VectorStore


class Searcher:
    """Raises Invalid when the model's vectors are not of the store's dimension."""

    def __init__(self, encoder: Encoder, store: VectorStore, *, model_hash: str = "") -> None:
        if encoder.dimension != store.dimension:
            raise Invalid(
                f"The model makes vectors of {encoder.dimension} numbers, the store holds vectors of {store.dimension}.",
                field="model.path",
                hint="Search with the model that the store was built with, or build the store anew with this one.",
            )
        self.encoder = encoder
        self.store = store
        self.warnings = _warnings(encoder, store, model_hash)

    def search(self, texts: Sequence[str], k: int = 4, *, batch_size: int = 32) -> tuple[list[list[Hit]], int]:
        """(for each text the nearest min(k, count) documents, nearest first; how many texts were truncated)."""
        vectors, truncated = self.encoder.encode(texts, role="query", batch_size=batch_size)
        return self.store.search(vectors, k), truncated


def _warnings(encoder: Encoder, store: VectorStore, model_hash: str) -> list[str]:
    found = []
    built = store.manifest.get("model", {}).get("hash", "")
    if model_hash and built and model_hash != built:
        found.append("The store was built with another model: its scores may mean nothing.")
    pooling = store.manifest.get("pooling")
    wanted = {"mode": encoder.pooling.name, "normalize": encoder.pooling.normalize}
    if pooling and pooling != wanted:
        found.append(f"The store was built with the pooling {pooling}, the model's is {wanted}.")
    if store.summary()["metric"] != "l2":
        found.append("The store is one of inner products: a higher score is better.")
    return found
