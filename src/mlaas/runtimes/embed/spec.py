"""Parameters of the recipes `index` and `search`. Schema only."""

from typing import Literal

from pydantic import Field

from mlaas.runtimes.data.spec import DatasetSource, ModelSource, Source, Strict, Target


class VectorStoreSave(Target):
    """`kind`: exact (flat) by default; auto takes HNSW from 100,000 vectors on, and says so in the answer."""

    format: Literal["vector_store"] = "vector_store"
    kind: Literal["auto", "flat", "hnsw", "ivf"] = "auto"


class IndexParams(Strict):
    """Embed a column of a data set and keep the vectors in a FAISS index, with the other columns as metadata."""

    model: ModelSource
    tokenizer: Source | None = None
    dataset: DatasetSource
    vector_store_save: VectorStoreSave | None = None
    batch_size: int = Field(32, ge=1, le=4096)


class SearchInput(Strict):
    input_text: list[str] = Field(min_length=1, max_length=100_000)
    k: int = Field(4, ge=1, le=10_000)


class SearchParams(Strict):
    """Find the nearest documents of a vector store. The score is the L2 distance: lower is better."""

    model: ModelSource
    tokenizer: Source | None = None
    dataset: DatasetSource
    search_input: SearchInput
