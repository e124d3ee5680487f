"""Predict masked tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.transformers.objectives.base import Batch, Encoding, Rows, numpy
from mlaas.runtimes.transformers.objectives.language_model import LanguageModel
from mlaas.runtimes.transformers.objectives.tokenizing import longest_input
from mlaas.runtimes.transformers.processing import language
from mlaas.runtimes.transformers.spec import PredictInput


class MaskedLanguageModel(LanguageModel):
    """Rows with `text`; longer ones are cut into windows, so that no token is lost. Which tokens are masked is drawn anew in
    every epoch of the training, and is always the same in evaluation."""

    name = "masked-lm"

    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        tokenizer = encoding.tokenizer
        if tokenizer.mask_token_id is None:
            raise Invalid(
                "The tokenizer has no mask token.", field="model.objective", hint="For such a model use causal-lm."
            )
        found = tokenizer(
            rows["text"],
            truncation=True,
            max_length=encoding.max_length,
            return_overflowing_tokens=True,
            return_attention_mask=False,
        )
        pieces = np.bincount(found["overflow_to_sample_mapping"], minlength=len(rows["text"]))
        encoding.note("cut into windows", int((pieces > 1).sum()))
        empty = tokenizer.num_special_tokens_to_add()
        kept = [ids for ids in found["input_ids"] if len(ids) > empty]
        encoding.note("without words", len(found["input_ids"]) - len(kept))
        return {"input_ids": kept}

    def _masked(self, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        ids = batch.arrays["input_ids"]
        maskable = (batch.arrays["tokens.mask"] == 1) & ~np.isin(ids, self.facts["special"])
        changed, labels = language.mask_tokens(
            ids, maskable, self.train.mlm_probability, self.facts["mask"], self.facts["vocabulary"], batch.draw
        )
        inputs = batch.inputs()
        inputs["input_ids"] = batch.tensor(changed)
        return inputs, batch.tensor(labels)

    def _predictions(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(masked tokens, vocabulary) in 32 bits and their labels. The head, which costs as much as some layers, sees only
        the masked tokens: it is applied token by token, so the body's states are picked on their way to it."""
        inputs, labels = self._masked(batch)
        chosen = (labels != language.IGNORED).flatten().nonzero().flatten()
        body = getattr(model, model.base_model_prefix, None)
        picked = False

        def pick(_module: Any, _inputs: Any, output: Any) -> Any:
            nonlocal picked
            states = output[0]
            if states.shape[:2] == labels.shape:
                picked = True
                output[0 if isinstance(output, list) else "last_hidden_state"] = states.flatten(0, 1)[chosen][None]
            return output

        hook = body.register_forward_hook(pick) if isinstance(body, torch.nn.Module) else None
        try:
            logits = model(**inputs).logits
        finally:
            if hook is not None:
                hook.remove()
        logits = logits[0] if picked else logits.flatten(0, 1)[chosen]
        return logits.float(), labels.flatten()[chosen]

    def predict(self, model: Any, tokenizer: Any, asked: PredictInput, folder: Path) -> list[dict[str, Any]]:
        special = set(tokenizer.all_special_ids)
        answers = []
        for i, text in enumerate(asked.input_text):
            inputs = tokenizer(
                text, truncation=True, max_length=longest_input(tokenizer, model.config), return_tensors="pt"
            ).to(model.device)
            ids = inputs["input_ids"][0].tolist()
            places = [place for place, token in enumerate(ids) if token == tokenizer.mask_token_id]
            if not places:
                raise Invalid(
                    f"Input {i} has no {tokenizer.mask_token}.",
                    field=f"predict_input.input_text.{i}",
                    hint=f"Write {tokenizer.mask_token} for each token to be predicted.",
                )
            logits = numpy(model(**inputs).logits[0][places])
            masks = language.candidates(logits, asked.top_k, special)
            filled = self._filled(model, inputs, places, special)
            answers.append(
                {
                    "text": tokenizer.decode(filled, skip_special_tokens=True),
                    "masks": [
                        [{"token": tokenizer.decode([token]).strip(), "score": score} for token, score in mask]
                        for mask in masks
                    ],
                }
            )
        return answers

    def _filled(self, model: Any, inputs: Any, places: list[int], special: set[int]) -> list[int]:
        """All masks filled jointly: the surest first, each next one seeing what was filled before."""
        ids = inputs["input_ids"].clone()
        left = list(places)
        while left:
            logits = numpy(model(**{**inputs, "input_ids": ids}).logits[0][left])
            best = [mask[0] for mask in language.candidates(logits, 1, special)]
            surest = max(range(len(left)), key=lambda k: best[k][1])
            ids[0][left.pop(surest)] = best[surest][0]
        found: list[int] = ids[0].tolist()
        return found
