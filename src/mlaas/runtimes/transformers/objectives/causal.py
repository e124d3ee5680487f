"""Predict the next token."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlaas.runtimes.transformers.objectives.base import Batch, Encoding, Rows, slices
from mlaas.runtimes.transformers.objectives.language_model import LanguageModel
from mlaas.runtimes.transformers.objectives.tokenizing import longest_input
from mlaas.runtimes.transformers.processing import language
from mlaas.runtimes.transformers.spec import PredictInput


class CausalLanguageModel(LanguageModel):
    """Rows with `text`, each ended by the end-of-text token; longer ones are cut into windows, so that no token is lost."""

    name = "causal-lm"

    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        tokenizer = encoding.tokenizer
        plain = tokenizer(rows["text"], return_attention_mask=False, verbose=False)["input_ids"]
        end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        whole = [ids + end if ids and ids[-1:] != end else ids for ids in plain]
        pieces = [[piece for piece in language.windows(ids, encoding.max_length) if len(piece) > 1] for ids in whole]
        encoding.note("cut into windows", sum(len(piece) > 1 for piece in pieces))
        encoding.note("without words", sum(not piece for piece in pieces))
        return {"input_ids": [ids for piece in pieces for ids in piece]}

    def _predictions(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        ids = batch.arrays["input_ids"].astype(np.int64)
        labels = batch.tensor(np.where(batch.arrays["tokens.mask"] == 1, ids, language.IGNORED))[:, 1:].flatten()
        logits = model(**batch.inputs(), use_cache=False).logits[:, :-1].flatten(0, 1)
        counted = labels != language.IGNORED
        return logits[counted].float(), labels[counted]

    def predict(self, model: Any, tokenizer: Any, asked: PredictInput, folder: Path) -> list[dict[str, Any]]:
        """`{text, tokens}`: what follows the input, chosen greedily, and how many tokens it has."""
        texts_: list[str] = asked.input_text
        answers: list[dict[str, Any]] = [{} for _ in texts_]
        tokenizer.padding_side = tokenizer.truncation_side = "left"  # the end of a text decides what follows it
        room = max(1, longest_input(tokenizer, model.config) - asked.max_new_tokens)
        for rows in slices(list(map(len, texts_)), asked.batch_size):
            inputs = tokenizer(
                [texts_[i] or tokenizer.bos_token or tokenizer.eos_token or " " for i in rows],
                truncation=True, max_length=room, padding=True, return_tensors="pt", return_token_type_ids=False,
            ).to(model.device)  # fmt: skip
            with torch.no_grad():
                made = model.generate(
                    **inputs, max_new_tokens=asked.max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
                )
            for i, ids in zip(rows, made[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                end = tokenizer.eos_token_id
                ids = ids[: ids.index(end)] if end in ids else ids
                answers[i] = {"text": tokenizer.decode(ids, skip_special_tokens=True), "tokens": len(ids)}
        return answers
