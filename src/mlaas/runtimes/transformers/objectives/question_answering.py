"""The span of a context that answers a question."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from mlaas.runtimes.transformers.objectives.base import Batch, Encoding, Loss, Objective, Prepared, Rows, numpy
from mlaas.runtimes.transformers.objectives.tokenizing import longest_input
from mlaas.runtimes.transformers.processing import answers
from mlaas.runtimes.transformers.spec import PredictInput
from mlaas.runtimes.transformers.tokens import Column

STRIDE = 128
QUESTION = 64  # tokens kept of a question where the window would leave no room for the context


class QuestionAnswering(Objective):
    """Rows with `question`, `context` and `answers` as SQuAD has them: `{text: [...], answer_start: [...]}`, the same as JSON
    text, a list of texts, or one text; no text: the question has no answer. A long context is cut into overlapping windows."""

    name = "question-answering"
    metric = "f1"
    sequences: ClassVar = {
        "input_ids": Column("int32", None),
        "token_type_ids": Column("uint8", 0),
        "starts": Column("int32", -1),  # place of a token in the context, -1 outside it
        "ends": Column("int32", -1),
        "text": Column("uint8", 0, "text"),  # JSON of {context, answers}, in the first window of a test row
    }
    scalars: ClassVar = {"first": "int32", "last": "int32", "example": "int64"}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._examples = 0

    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {name: [] for name in (*self.sequences, *self.scalars)}
        split = windows(encoding.tokenizer, list(rows["question"]), list(rows["context"]), encoding.max_length)
        truths = [_answers(value) for value in rows["answers"]]
        spans = [_located(truth, context, encoding) for truth, context in zip(truths, rows["context"], strict=True)]
        seen = -1
        for window, row in enumerate(split["overflow_to_sample_mapping"]):
            span = spans[row]
            if span is None and not encoding.test:
                continue
            offsets = split["offset_mapping"][window]
            own = [part == 1 for part in split.sequence_ids(window)]
            first, last = answers.place(offsets, own, *span) if span else (0, 0)
            found["input_ids"].append(split["input_ids"][window])
            types = split.get("token_type_ids")
            found["token_type_ids"].append(types[window] if types else np.zeros(len(own), dtype=np.uint8))
            found["starts"].append([a if inside else -1 for (a, _), inside in zip(offsets, own, strict=True)])
            found["ends"].append([b if inside else -1 for (_, b), inside in zip(offsets, own, strict=True)])
            text = b""
            if encoding.test and row != seen:
                text = json.dumps({"context": rows["context"][row], "answers": [t for t, _ in truths[row]]}).encode()
            seen = row
            found["text"].append(np.frombuffer(text, dtype=np.uint8))
            found["first"].append(first)
            found["last"].append(last)
            found["example"].append(self._examples + row)
        self._examples += len(truths)
        encoding.note("answer lost", 0 if encoding.test else sum(span is None for span in spans))
        return found

    def loss(self, model: Any, batch: Batch) -> Loss:
        outputs = model(**batch.inputs())
        first = batch.tensor(batch.arrays["first"].astype(np.int64))
        last = batch.tensor(batch.arrays["last"].astype(np.int64))
        start, end = outputs.start_logits.float(), outputs.end_logits.float()
        right = ((start.detach().argmax(-1) == first) & (end.detach().argmax(-1) == last)).sum()
        value = (functional.cross_entropy(start, first) + functional.cross_entropy(end, last)) / 2
        return Loss(value, right, torch.tensor(len(first)))

    def evaluate(self, model: Any, batches: Iterator[Batch], data: Prepared) -> dict[str, Any]:
        total, count = 0.0, 0
        spans: dict[int, list[list[tuple[float, int, int]]]] = {}
        for batch in batches:
            found = self.loss(model, batch)
            total += float(found.value) * len(batch.rows)
            count += len(batch.rows)
            outputs = model(**batch.inputs())
            start, end = numpy(outputs.start_logits), numpy(outputs.end_logits)
            for i, example in enumerate(batch.arrays["example"]):
                starts, ends = batch.arrays["starts"][i], batch.arrays["ends"][i]
                offsets = np.stack([starts, ends], axis=1)
                spans.setdefault(int(example), []).append(answers.spans(start[i], end[i], offsets, starts >= 0))
        exact, overlap = [], []
        for row in np.unique(data.test.scalars["example"], return_index=True)[1]:
            truth = json.loads(data.test.sequence("text", int(row)).tobytes())
            windows_of = spans[int(data.test.scalars["example"][row])]
            answer = answers.best(windows_of, truth["context"], empty=True)["answer"]
            exact.append(answers.exact_match(answer, truth["answers"]))
            overlap.append(answers.f1(answer, truth["answers"]))
        match = float(np.mean(exact))
        return {"loss": total / count, "accuracy": match, "exact_match": match, "f1": float(np.mean(overlap))}

    def predict(self, model: Any, tokenizer: Any, asked: PredictInput, folder: Path) -> list[dict[str, Any]]:
        found = []
        longest = longest_input(tokenizer, model.config)
        for item in asked.input_text:
            split = windows(tokenizer, [item["question"]], [item["context"]], longest)
            spans = []
            for start in range(0, len(split["input_ids"]), asked.batch_size):
                rows = range(start, min(start + asked.batch_size, len(split["input_ids"])))
                inputs = {
                    name: [split[name][i] for i in rows]
                    for name in ("input_ids", "attention_mask", "token_type_ids")
                    if name in split
                }
                outputs = model(**tokenizer.pad(inputs, return_tensors="pt").to(model.device))
                starts, ends = numpy(outputs.start_logits), numpy(outputs.end_logits)
                for place, i in enumerate(rows):
                    own = np.array([part == 1 for part in split.sequence_ids(i)])
                    offsets = np.array(split["offset_mapping"][i])
                    spans.append(answers.spans(starts[place][: len(own)], ends[place][: len(own)], offsets, own))
            found.append(answers.best(spans, item["context"]))
        return found


def windows(tokenizer: Any, questions: list[str], contexts: list[str], longest: int) -> Any:
    """Question and context together, a context that is too long in overlapping windows; a question that leaves too little
    room is cut."""
    room = min(QUESTION, longest // 2)
    short = []
    for question in questions:
        places = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
            "offset_mapping"
        ]
        short.append(question if len(places) <= room else question[: places[room - 1][1]])
    return tokenizer(
        short, contexts, truncation="only_second", max_length=longest, stride=min(STRIDE, longest // 4),
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip


def _answers(value: Any) -> list[tuple[str, int | None]]:
    """A cell as (text, place in the context or None)."""
    if isinstance(value, str):
        try:
            parsed = json.loads(value) if value.strip()[:1] in "{[" and value.strip() else value
        except ValueError:
            parsed = value
        value = parsed
    if value is None or value == "":
        return []
    if isinstance(value, dict):
        found, starts = value.get("text") or [], value.get("answer_start")
        found = [found] if isinstance(found, str) else found
        starts = [starts] if isinstance(starts, int) else starts or [None] * len(found)
        return [(str(text), start) for text, start in zip(found, starts, strict=False)]
    if isinstance(value, list):
        return [pair for item in value for pair in _answers(item)]
    return [(str(value), None)]


def _located(truth: list[tuple[str, int | None]], context: str, encoding: Encoding) -> tuple[int, int] | None:
    """The first and last + 1 character of the first answer; (0, 0) for no answer, None for one that is not in the context."""
    if not truth:
        return 0, 0
    text, start = truth[0]
    if start is not None and context[start : start + len(text)] == text:
        return start, start + len(text)
    if start is not None:
        encoding.note("answer not in context", 1)
    start = context.find(text)
    return None if start < 0 or not text else (start, start + len(text))
