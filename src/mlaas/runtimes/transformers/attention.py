"""Attention with dropout for training on a processor.

torch's fused kernel for CPUs knows no dropout, and what stands in for it draws a Bernoulli number a weight and takes the softmax
of short rows in bfloat16, two to three times the time of the products themselves. Here the softmax is taken in 32 bits and the
dropout drawn from a `dropout.Stream`; everything else goes to the attention that transformers would have taken.
"""

from typing import Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mlaas.runtimes.transformers.dropout import FastDropout

NAME = "mlaas_training"
REPLACED = "sdpa"


def quicken(model: Any) -> None:
    """Let a model that attends by `REPLACED`, and whose dropouts are `FastDropout`, attend by this."""
    if model.config._attn_implementation == REPLACED:
        model.config._attn_implementation = NAME


def restore(model: Any) -> None:
    if model.config._attn_implementation == NAME:
        model.config._attn_implementation = REPLACED


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As transformers asks of an attention function: (batch, heads, tokens, width) each to (batch, tokens, heads, width)."""
    part = getattr(module, "dropout", None)
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    plain = key.shape[:2] == query.shape[:2] and not causal and all(given is None for given in rest.values())
    if not (plain and dropout > 0.0 and module.training and isinstance(part, FastDropout)):
        found: tuple[torch.Tensor, torch.Tensor | None] = ALL_ATTENTION_FUNCTIONS[REPLACED](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **rest
        )
        return found
    batch, heads, asked, width = query.shape
    told = key.shape[2]
    query = (query * (width**-0.5 if scaling is None else scaling)).reshape(batch * heads, asked, width)
    key = key.reshape(batch * heads, told, width)
    value = value.reshape(batch * heads, told, -1)
    if attention_mask is None:
        scores = torch.bmm(query, key.mT)
    else:
        scores = torch.baddbmm(_bias(attention_mask, query.dtype, (batch, heads, asked, told)), query, key.mT)
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = part(torch.softmax(scores, -1, dtype=precise).to(value.dtype))
    out = torch.bmm(weights, value).view(batch, heads, asked, -1)
    return out.transpose(1, 2), None


def _bias(mask: torch.Tensor, dtype: torch.dtype, shape: tuple[int, int, int, int]) -> torch.Tensor:
    """What is added to the scores, (batch * heads, asked, told)."""
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)
    return mask.to(dtype).expand(shape).reshape(-1, *shape[2:])


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS[REPLACED])
