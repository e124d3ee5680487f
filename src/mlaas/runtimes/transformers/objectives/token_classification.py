"""A label for each word (named entities)."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch.nn import functional

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.transformers.objectives.base import Batch, Encoding, Loss, Objective, Prepared, Rows, numpy, slices
from mlaas.runtimes.transformers.objectives.text_classification import label_names
from mlaas.runtimes.transformers.objectives.tokenizing import longest_input
from mlaas.runtimes.transformers.processing import entities
from mlaas.runtimes.transformers.spec import PredictInput
from mlaas.runtimes.transformers.tokens import Column

if TYPE_CHECKING:
    import pyarrow as pa


class TokenClassification(Objective):
    """Rows with `tokens` (words) and `tags` (one a word): lists, JSON lists as text, or words between blanks."""

    name = "token-classification"
    metric = "f1"
    sequences: ClassVar = {"input_ids": Column("int32", None), "labels": Column("int32", entities.IGNORED)}

    def names(self, columns: Iterable[dict[str, "pa.ChunkedArray"]]) -> list[str] | None:
        found: set[str] = set()
        for split in columns:
            for chunk in split["tags"].chunks:
                for value in chunk.to_pylist():
                    found.update(map(str, words(value)))
        if len(found) < 2:
            raise Invalid(
                f"All words have one tag, {', '.join(map(repr, found))}: there is nothing to tell apart.",
                field="dataset.loader_kwargs.tags_column",
                hint="Tags are, for example, O, B-PER, I-PER.",
            )
        return sorted(found, key=lambda tag: (tag != "O", tag[2:] if tag[1:2] == "-" else tag, tag))

    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        texts, tags = [], []
        for token_list, tag_list in zip(rows["tokens"], rows["tags"], strict=True):
            pieces, codes = list(map(str, words(token_list))), [encoding.codes[str(tag)] for tag in words(tag_list)]
            if len(pieces) != len(codes):
                raise Invalid(
                    f"A row has {len(pieces)} tokens and {len(codes)} tags: {' '.join(pieces)[:80]!r}.",
                    field="dataset.loader_kwargs.tags_column",
                    hint="Each token needs one tag.",
                )
            if pieces:
                texts.append(pieces)
                tags.append(codes)
        encoding.note("without words", len(rows["tokens"]) - len(texts))
        if not texts:
            return {"input_ids": [], "labels": []}
        found = encoding.tokenizer(
            texts,
            is_split_into_words=True,
            truncation=True,
            max_length=encoding.max_length,
            return_attention_mask=False,
        )
        places = [found.word_ids(i) for i in range(len(texts))]
        seen = [1 + max((word for word in place if word is not None), default=-1) for place in places]
        encoding.note("truncated", sum(count < len(text) for count, text in zip(seen, texts, strict=True)))
        return {
            "input_ids": found["input_ids"],
            "labels": [entities.align(place, codes) for place, codes in zip(places, tags, strict=True)],
        }

    def loss(self, model: Any, batch: Batch) -> Loss:
        logits = model(**batch.inputs()).logits.float()
        truth = batch.tensor(batch.arrays["labels"].astype(np.int64))
        counted = truth != entities.IGNORED
        right = ((logits.detach().argmax(-1) == truth) & counted).sum()
        value = functional.cross_entropy(logits.flatten(0, 1), truth.flatten(), weight=self.weights)
        return Loss(value, right, counted.sum())

    def evaluate(self, model: Any, batches: Iterator[Batch], data: Prepared) -> dict[str, Any]:
        from seqeval.metrics import classification_report

        names, total, right, count = data.labels, 0.0, 0, 0
        truths: list[list[str]] = []
        answers: list[list[str]] = []
        for batch in batches:
            logits = model(**batch.inputs()).logits.float()
            labels = batch.arrays["labels"].astype(np.int64)
            total += float(
                functional.cross_entropy(logits.flatten(0, 1), batch.tensor(labels).flatten(), reduction="sum")
            )
            for row, chosen in zip(labels, numpy(logits.argmax(-1)), strict=True):
                counted = row != entities.IGNORED
                truths.append([names[i] for i in row[counted]])
                answers.append([names[i] for i in chosen[counted]])
                right += int((row[counted] == chosen[counted]).sum())
                count += int(counted.sum())
        report = classification_report(truths, answers, output_dict=True, zero_division=0)
        overall = report["micro avg"]
        per_class = {
            name: {
                "precision": float(row["precision"]), "recall": float(row["recall"]),
                "f1": float(row["f1-score"]), "support": int(row["support"]),
            }
            for name, row in report.items()
            if not name.endswith(" avg")
        }  # fmt: skip
        return {
            "loss": total / max(1, count),
            "accuracy": right / max(1, count),
            "precision": float(overall["precision"]),
            "recall": float(overall["recall"]),
            "f1": float(overall["f1-score"]),
            "per_class": per_class,
        }

    def predict(self, model: Any, tokenizer: Any, asked: PredictInput, folder: Path) -> list[dict[str, Any]]:
        names = label_names(model.config)
        texts: list[str] = asked.input_text
        answers: list[dict[str, Any]] = [{} for _ in texts]
        for rows in slices(list(map(len, texts)), asked.batch_size):
            inputs = tokenizer(
                [texts[i] for i in rows], truncation=True, max_length=longest_input(tokenizer, model.config),
                padding=True, return_offsets_mapping=True, return_tensors="pt",
            )  # fmt: skip
            offsets = inputs.pop("offset_mapping").tolist()
            logits = numpy(model(**inputs.to(model.device)).logits)
            for place, i in enumerate(rows):
                found = entities.entities(texts[i], logits[place], offsets[place], inputs.word_ids(place), names)
                answers[i] = {"entities": found}
        return answers


def words(value: Any) -> list[Any]:
    """A cell as a list of words or tags."""
    if isinstance(value, list):
        return value
    if value is None:
        return []
    text = str(value).strip()
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            return text.split()
        return found if isinstance(found, list) else text.split()
    return text.split()
