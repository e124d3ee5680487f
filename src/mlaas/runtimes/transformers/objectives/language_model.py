"""What the objectives that predict tokens of running text share: the column, the loss, the measures."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch.nn import functional

from mlaas.runtimes.transformers.objectives.base import Batch, Loss, Objective, Prepared
from mlaas.runtimes.transformers.processing import language


class LanguageModel(Objective):
    """Rows with `text`; every token that is predicted weighs the same."""

    metric = "loss"
    predicts_tokens: ClassVar[bool] = True

    @abstractmethod
    def _predictions(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(predicted tokens, vocabulary) logits in 32 bits, and the token ids that are right."""

    def loss(self, model: Any, batch: Batch) -> Loss:
        logits, labels = self._predictions(model, batch)
        right = (logits.detach().argmax(-1) == labels).sum()
        return Loss(functional.cross_entropy(logits, labels), right, torch.tensor(len(labels)))

    def evaluate(self, model: Any, batches: Iterator[Batch], data: Prepared) -> dict[str, Any]:
        """Loss, accuracy and perplexity over all predicted tokens of the test set."""
        total, right, count = 0.0, 0, 0
        for batch in batches:
            logits, labels = self._predictions(model, batch)
            total += float(functional.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(-1) == labels).sum())
            count += len(labels)
        return language.summary(total, right, count)
