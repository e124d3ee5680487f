"""The last layer of an encoder for the first token alone, where the head reads nothing else.

A classification head of the BERT family takes the last layer's output at the first token. That layer's keys and values are
needed of all tokens; its query, its output and its feed-forward part only of the first. The same logits and gradients for an
eighth less to compute in a model of six layers.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_BERT = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
_HEADS = ("ForSequenceClassification", "ForNextSentencePrediction")


def narrow(model: Any) -> Callable[[], None] | None:
    """Make the last layer of `model` compute its first token only; what undoes it, or None where this model is not known."""
    config = model.config
    if not type(model).__name__.endswith(_HEADS) or getattr(config, "is_decoder", False):
        return None
    if config._attn_implementation != "sdpa":  # only it takes one query to many keys in every architecture below
        return None
    body = getattr(model, model.base_model_prefix)
    if config.model_type in _BERT:
        layer, forward = body.encoder.layer[-1], _bert
    elif config.model_type == "distilbert":
        layer, forward = body.transformer.layer[-1], _distilbert
    else:
        return None
    layer.forward = MethodType(forward, layer)

    def widen() -> None:
        del layer.forward

    return widen


def _bert(layer: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any) -> Any:
    part, first = layer.attention.self, states[:, :1]
    found = _attended(part, (part.query(first), part.key(states), part.value(states)), attention_mask)
    return layer.feed_forward_chunk(layer.attention.output(found, first))


def _distilbert(layer: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> Any:
    part, first = layer.attention, states[:, :1]
    found = part.out_lin(_attended(part, (part.q_lin(first), part.k_lin(states), part.v_lin(states)), attention_mask))
    found = layer.sa_layer_norm(found + first)
    return layer.output_layer_norm(layer.ffn(found) + found)


def _attended(part: Any, projected: tuple[torch.Tensor, ...], mask: torch.Tensor | None) -> torch.Tensor:
    """What the first token gathers, (batch, 1, width), of query (batch, 1, width), key and value (batch, tokens, width)."""
    batch = len(projected[0])
    heads = [x.view(batch, -1, x.shape[-1] // part.attention_head_size, part.attention_head_size) for x in projected]
    query, key, value = (x.transpose(1, 2) for x in heads)
    found, _ = ALL_ATTENTION_FUNCTIONS[part.config._attn_implementation](
        part, query, key, value, None if mask is None else mask[:, :, :1],
        dropout=part.dropout.p if part.training else 0.0, scaling=part.scaling,
    )  # fmt: skip
    return found.reshape(batch, 1, -1)
