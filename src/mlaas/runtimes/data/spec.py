"""How a task names what it reads and writes: the institute's words (models, tokenizers, data sets, targets). Schema only."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

StorageType = Literal["local", "s3", "hugging_face_hub"]
Objective = Literal[
    "causal-lm",
    "masked-lm",
    "next-sentence-prediction",
    "text-classification",
    "token-classification",
    "question-answering",
    "no-objective",
]
Path = Annotated[str, Field(min_length=1, max_length=4096)]


class Strict(BaseModel):
    """Unknown keys are refused, and values of another type (`true` is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Source(Strict):
    """Something to read. `path`: local (relative to the first root), `s3://bucket/key` or a key in the bucket of
    `MLAAS_S3_BUCKET`, a hub repository id (`org/name`, with `@revision`), or `task:NAME`, the output of an ended task."""

    path: Path
    storage_type: StorageType = "local"


class ModelSource(Source):
    objective: Objective = "text-classification"


class LoaderKwargs(Strict):
    """Names of columns where they are not the usual ones."""

    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    tokens_column: str | None = None
    tags_column: str | None = None
    question_column: str | None = None
    context_column: str | None = None
    answers_column: str | None = None
    page_content_column: str | None = None
    encoding: str = "utf-8"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None


class Augment(Strict):
    """Smart typos: enlarge the training rows (never the test rows) to about `factor` times, or to `size` rows."""

    factor: float | None = Field(None, gt=1, le=1000)
    size: int | None = Field(None, gt=0, le=100_000_000)
    seed: int = Field(0, ge=0)
    abbreviate: bool = True


class DatasetSource(Source):
    """`format` is found from the name and the content when it is left out. `split` names the split to read of a data set
    that has several; `train_test_split` is the test set's share, or its number of rows when it is 1 or more."""

    format: Literal["csv", "tsv", "jsonl", "json", "parquet", "text", "arrow", "vector_store"] | None = None
    split: str | None = None
    train_test_split: float | None = Field(None, gt=0)
    text_column: str | None = None
    label_column: str | None = None
    loader_kwargs: LoaderKwargs = Field(default_factory=LoaderKwargs)
    augment: Augment | None = None


class Target(Strict):
    """Where to save. The folder must not exist, unless this very task wrote it."""

    path: Path
    storage_type: Literal["local", "s3"] = "local"
