"""Text, or a pair of texts, to one label."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from mlaas.runtimes.data.roles import check_classes, natural
from mlaas.runtimes.transformers.objectives.base import Batch, Encoding, Loss, Objective, Prepared, Rows, numpy, slices
from mlaas.runtimes.transformers.objectives.tokenizing import longest_input, tokenize
from mlaas.runtimes.transformers.processing import classification
from mlaas.runtimes.transformers.spec import PredictInput
from mlaas.runtimes.transformers.tokens import Column

if TYPE_CHECKING:
    import pyarrow as pa


class TextClassification(Objective):
    name = "text-classification"
    stratified = True
    sequences: ClassVar = {"input_ids": Column("int32", None), "token_type_ids": Column("uint8", 0)}
    scalars: ClassVar = {"label": "int32"}

    def names(self, columns: Iterable[dict[str, "pa.ChunkedArray"]]) -> list[str] | None:
        found = sorted({str(value) for split in columns for value in split["label"].unique().to_pylist()}, key=natural)
        check_classes(found)
        return found

    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        encoded = tokenize(encoding, rows["text"], rows.get("text_pair"))
        encoded["label"] = [encoding.codes[str(label)] for label in rows["label"]]
        return encoded

    def loss(self, model: Any, batch: Batch) -> Loss:
        logits = model(**batch.inputs()).logits.float()
        truth = batch.tensor(batch.arrays["label"].astype(np.int64))
        right = (logits.detach().argmax(-1) == truth).sum()
        value = functional.cross_entropy(logits, truth, weight=self.weights)
        return Loss(value, right, torch.tensor(len(truth)))

    def evaluate(self, model: Any, batches: Iterator[Batch], data: Prepared) -> dict[str, Any]:
        truth, predicted, total = [], [], 0.0
        for batch in batches:
            logits = model(**batch.inputs()).logits.float()
            target = batch.arrays["label"].astype(np.int64)
            total += float(functional.cross_entropy(logits, batch.tensor(target), reduction="sum"))
            truth.append(target)
            predicted.append(numpy(logits.argmax(-1)))
        answers = np.concatenate(truth)
        measures = classification.report(answers, np.concatenate(predicted), data.labels)
        return {"loss": total / len(answers), **measures}

    def predict(self, model: Any, tokenizer: Any, asked: PredictInput, folder: Path) -> list[dict[str, Any]]:
        names = label_names(model.config)
        answers: list[dict[str, Any]] = [{} for _ in asked.input_text]
        pairs = [item if isinstance(item, list) else [item] for item in asked.input_text]
        longest = longest_input(tokenizer, model.config)
        for rows in slices([sum(map(len, pair)) for pair in pairs], asked.batch_size):
            columns = _columns([pairs[i] for i in rows])
            inputs = tokenizer(*columns, truncation=True, max_length=longest, padding=True, return_tensors="pt")
            logits = model(**inputs.to(model.device)).logits
            for i, answer in zip(rows, classification.classify(numpy(logits), names), strict=True):
                answers[i] = answer
        return answers


def label_names(config: Any) -> list[str]:
    return [str(config.id2label[i]) for i in range(config.num_labels)]


def _columns(pairs: list[list[str]]) -> list[list[str]]:
    """[[a, b], [c, d]] -> [[a, c], [b, d]]; a text without a pair gets an empty one where others have one."""
    width = max(len(pair) for pair in pairs)
    return [[pair[i] if i < len(pair) else "" for pair in pairs] for i in range(width)]
