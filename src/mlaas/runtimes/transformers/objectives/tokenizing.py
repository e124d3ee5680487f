"""Texts and pairs of texts to tokens, and how many of them a model takes."""

from typing import Any

import numpy as np

from mlaas.runtimes.model_folder import check_fit
from mlaas.runtimes.transformers.objectives.base import Encoding

UNSAID = 1 << 20  # tokenizers without a limit say 10**30


def longest_input(tokenizer: Any, config: Any) -> int:
    """The tokens that a model takes, as tokenizer and configuration say; 512 where neither does."""
    limits = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < UNSAID else []
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if isinstance(positions, int) and positions > 0:
        offset = 2 if config.model_type in _OFFSET else 0  # their positions start behind the padding token's
        limits.append(positions - offset)
    return min(limits, default=512)


_OFFSET = {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet", "roberta-prelayernorm", "data2vec-text", "esm"}


def tokenize(encoding: Encoding, first: list[str], second: list[str] | None = None) -> dict[str, list[Any]]:
    """Texts to `input_ids` and `token_type_ids`, cut at `max_length`; how many were cut is noted."""
    pair = [second] if second is not None else []
    found = encoding.tokenizer(
        first,
        *pair,
        truncation=True,
        max_length=encoding.max_length,
        return_attention_mask=False,
        return_token_type_ids=second is not None,
    )
    ids: list[list[int]] = found["input_ids"]
    full = [i for i, row in enumerate(ids) if len(row) >= encoding.max_length]
    if full:
        pair = [[second[i] for i in full]] if second is not None else []
        whole = encoding.tokenizer([first[i] for i in full], *pair, return_attention_mask=False, verbose=False)
        encoding.note("truncated", sum(len(row) > encoding.max_length for row in whole["input_ids"]))
    types = found.get("token_type_ids") or [np.zeros(len(row), dtype=np.uint8) for row in ids]
    return {"input_ids": ids, "token_type_ids": types}


def padding_token(tokenizer: Any, config: Any) -> int:
    """The id that fills up a batch: the tokenizer's, else the configuration's, else the end of text (GPT-2 has no other)."""
    for found in (tokenizer.pad_token_id, getattr(config, "pad_token_id", None), tokenizer.eos_token_id):
        if found is not None and found >= 0:
            return int(found)
    return 0


def fits(tokenizer: Any, config: Any, field: str = "tokenizer.path") -> None:
    """Raises Invalid when the tokenizer knows tokens that the model has no embedding for."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    highest = max(tokenizer.get_vocab().values(), default=0)
    check_fit(highest, size if isinstance(size, int) else None, field=field)
