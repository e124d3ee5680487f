"""Vectors of texts, from a model without a head; trained by contrast."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from mlaas.runtimes.transformers.objectives.base import Batch, Encoding, Loss, Objective, Prepared, Rows, numpy, slices
from mlaas.runtimes.transformers.objectives.tokenizing import longest_input, tokenize
from mlaas.runtimes.transformers.processing.embeddings import Pooling
from mlaas.runtimes.transformers.spec import PredictInput
from mlaas.runtimes.transformers.tokens import Column

SCALE = 20.0  # of the cosine, as sentence-transformers has it
NO_CLASS = -1


class Embedding(Objective):
    """What pulls two texts together depends on the columns:

    - `text` and `text_pair`: a text and its pair, apart from the pairs of the other rows of the batch (multiple negatives
      ranking; Henderson et al. 2017, arXiv:1705.00652);
    - `text` and `label`: texts of one label (supervised contrastive; Khosla et al. 2020, arXiv:2004.11362);
    - `text` alone: a text and itself under another dropout (SimCSE; Gao et al. 2021, arXiv:2104.08821).

    `accuracy` is the share of texts whose nearest other text in the batch is one of its own.
    """

    name = "no-objective"
    sequences: ClassVar = {"input_ids": Column("int32", None), "pair_ids": Column("int32", None, "pair")}
    scalars: ClassVar = {"group": "int32"}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pooling = Pooling()
        self._groups: dict[str, int] = {}

    def bind(self, facts: dict[str, Any], folder: Path, weights: torch.Tensor | None = None) -> None:
        super().bind(facts, folder, weights)
        self.pooling = Pooling.of(folder)

    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        first = tokenize(encoding, rows["text"])["input_ids"]
        pairs = tokenize(encoding, rows["text_pair"])["input_ids"] if "text_pair" in rows else [[] for _ in first]
        groups = [self._groups.setdefault(str(name), len(self._groups)) for name in rows.get("label", [])]
        return {"input_ids": first, "pair_ids": pairs, "group": groups or [NO_CLASS] * len(first)}

    def vectors(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Pooled states of unit length, with a gradient. Pooling that is neither of the first token nor the mean is trained
        as the mean."""
        states = model(**inputs).last_hidden_state.float()
        mask = inputs.get("attention_mask")
        if self.pooling.modes == ("cls",):
            pooled = states[:, 0]
        elif mask is None:
            pooled = states.mean(1)
        else:
            weights = mask[:, :, None].float()
            pooled = (states * weights).sum(1) / weights.sum(1)
        return functional.normalize(pooled, dim=-1)

    def loss(self, model: Any, batch: Batch) -> Loss:
        first = self.vectors(model, batch.inputs())
        groups = batch.tensor(batch.arrays["group"].astype(np.int64))
        if int(groups.max()) != NO_CLASS:
            return _by_class(first, groups)
        paired = bool(batch.arrays["pair.mask"].any())
        second = self.vectors(model, batch.inputs("pair_ids", "pair") if paired else batch.inputs())
        similar = first @ second.T * SCALE
        truth = torch.arange(len(first), device=similar.device)
        right = (similar.detach().argmax(-1) == truth).sum()
        return Loss(functional.cross_entropy(similar, truth), right, torch.tensor(len(first)))

    def evaluate(self, model: Any, batches: Iterator[Batch], data: Prepared) -> dict[str, Any]:
        total, right, count, rows = 0.0, 0, 0, 0
        for batch in batches:
            found = self.loss(model, batch)
            total += float(found.value) * len(batch.rows)
            right += int(found.right)
            count += int(found.count)
            rows += len(batch.rows)
        return {"loss": total / rows, "accuracy": right / max(1, count)}

    def predict(self, model: Any, tokenizer: Any, asked: PredictInput, folder: Path) -> list[dict[str, Any]]:
        pooling = Pooling.of(folder)
        found: list[dict[str, Any]] = [{} for _ in asked.input_text]
        longest = min(longest_input(tokenizer, model.config), pooling.max_length or 1 << 30)
        for rows in slices(list(map(len, asked.input_text)), asked.batch_size):
            inputs = tokenizer(
                [asked.input_text[i] for i in rows],
                truncation=True, max_length=longest, padding=True, return_tensors="pt",
            ).to(model.device)  # fmt: skip
            states = numpy(model(**inputs).last_hidden_state)
            for i, vector in zip(rows, pooling.apply(states, inputs["attention_mask"].cpu().numpy()), strict=True):
                found[i] = {"embedding": vector.tolist()}
        return found


def _by_class(vectors: torch.Tensor, groups: torch.Tensor) -> Loss:
    """Supervised contrast; rows that are alone in their class pull nothing."""
    size = len(vectors)
    itself = torch.eye(size, dtype=torch.bool, device=vectors.device)
    similar = (vectors @ vectors.T * SCALE).masked_fill(itself, -1e9)
    same = (groups[:, None] == groups[None, :]) & ~itself
    friends = same.sum(1)
    likely = torch.log_softmax(similar, dim=-1).masked_fill(~same, 0.0).sum(1) / friends.clamp(min=1)
    counted = friends > 0
    value = -(likely * counted).sum() / counted.sum().clamp(min=1)
    nearest = groups[similar.detach().argmax(-1)]
    return Loss(value, ((nearest == groups) & counted).sum(), counted.sum())
