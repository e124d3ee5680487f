"""What an objective has to say: which columns it reads, how a row becomes tokens, its loss, its measures and its answers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mlaas.runtimes.data.spec import DatasetSource
from mlaas.runtimes.model_folder import AUTO_CLASSES
from mlaas.runtimes.transformers.spec import ModelTrain, PredictInput
from mlaas.runtimes.transformers.tokens import Column, TokenSet

if TYPE_CHECKING:
    import pyarrow as pa

Arrays = dict[str, NDArray[Any]]
Rows = Mapping[str, list[Any]]


@dataclass(slots=True)
class Prepared:
    """A data set ready to train on. `facts` is what `prepared.json` holds, see `prepare.py`."""

    train: TokenSet
    test: TokenSet
    facts: dict[str, Any]
    folder: Path

    @property
    def labels(self) -> list[str]:
        return list(self.facts.get("labels") or [])

    @property
    def padding(self) -> int:
        return int(self.facts["padding"])


@dataclass(frozen=True, slots=True)
class Encoding:
    """How rows become tokens: at most `max_length` of them; `codes` numbers the labels. `test` rows keep what only
    evaluation needs; `notes` counts what to warn of."""

    tokenizer: Any
    max_length: int
    codes: dict[str, int] = field(default_factory=dict)
    test: bool = False
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, what: str, count: int) -> None:
        if count:
            self.notes[what] = self.notes.get(what, 0) + count


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded arrays of some rows, and how they become tensors; `draw` is this batch's own random stream, `lookup` maps token
    ids to the rows of a smaller embedding matrix (`vocabulary.py`)."""

    rows: NDArray[np.int64]
    arrays: Arrays
    device: torch.device
    draw: np.random.Generator
    lookup: NDArray[np.int32] | None = None

    def tensor(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

    def inputs(self, name: str = "input_ids", group: str = "tokens") -> dict[str, torch.Tensor]:
        """The keyword arguments of a model. No mask where nothing is padded: attention is faster without one."""
        ids = self.arrays[name]
        if self.lookup is not None:
            ids = self.lookup[ids]
        found = {"input_ids": self.tensor(ids.astype(np.int64))}
        mask = self.arrays[f"{group}.mask"]
        if not mask.all():
            found["attention_mask"] = self.tensor(mask)
        types = self.arrays.get("token_type_ids")
        if types is not None and name == "input_ids" and types.any():
            found["token_type_ids"] = self.tensor(types.astype(np.int64))
        return found


@dataclass(frozen=True, slots=True)
class Loss:
    """`value` has a gradient; of `count` items `right` were right (tensors without one)."""

    value: torch.Tensor
    right: torch.Tensor
    count: torch.Tensor


class Objective(ABC):
    """One of the seven. `metric` decides which epoch was the best where early stopping does not say it."""

    name: ClassVar[str]
    metric: ClassVar[str] = "accuracy"
    stratified: ClassVar[bool] = False
    sequences: ClassVar[dict[str, Column]] = {"input_ids": Column("int32", None)}
    scalars: ClassVar[dict[str, str]] = {}
    predicts_tokens: ClassVar[bool] = False  # then every row of the embedding matrix has a gradient

    def __init__(self, train: ModelTrain | None = None) -> None:
        self.train = train or ModelTrain()
        self.facts: dict[str, Any] = {}
        self.weights: torch.Tensor | None = None

    @property
    def auto(self) -> str:
        """The class of transformers that loads its models."""
        return AUTO_CLASSES[self.name]

    def bind(self, facts: dict[str, Any], folder: Path, weights: torch.Tensor | None = None) -> None:
        """Called once before training, with what `prepare` found, the model's folder and the weights of the classes."""
        self.facts, self.weights = facts, weights

    def columns(self, table: "pa.Table", source: DatasetSource) -> dict[str, "pa.ChunkedArray"]:
        """The columns it needs (`roles.NEEDS`), checked, by role. Raises Invalid with the columns found."""
        from mlaas.runtimes.data.columns import read

        return read(table, source, self.name)

    def names(self, columns: Iterable[dict[str, "pa.ChunkedArray"]]) -> list[str] | None:
        """The names of the classes in the data, sorted; None where there are none."""
        return None

    @abstractmethod
    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        """Rows to the columns of `sequences` and `scalars`. One row may give several, or none."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> Loss: ...

    @abstractmethod
    def evaluate(self, model: Any, batches: Iterator[Batch], data: Prepared) -> dict[str, Any]:
        """Measures on the test set; `loss` always, `accuracy` where it applies. The model is in evaluation mode."""

    @abstractmethod
    def predict(self, model: Any, tokenizer: Any, asked: PredictInput, folder: Path) -> list[dict[str, Any]]:
        """One answer an input, in order."""


def numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """As an array; bfloat16, which NumPy does not know, becomes float32."""
    tensor = tensor.detach()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array


def slices(lengths: list[int], size: int) -> list[NDArray[np.int64]]:
    """Batches of inputs of like length."""
    order = np.argsort(np.array(lengths), kind="stable")
    return [order[i : i + size] for i in range(0, len(order), size)]
