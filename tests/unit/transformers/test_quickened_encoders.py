"""What makes training on a processor faster changes neither answers nor gradients: against the stock model, in 64 bits."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForNextSentencePrediction, AutoModelForSequenceClassification

from mlaas.runtimes.transformers import attention, dropout, first_token

KINDS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
SMALL = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 40, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
ALIKE = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}


def model(kind: str, auto: Any = AutoModelForSequenceClassification, p: float = 0.0) -> Any:
    torch.manual_seed(0)
    size = {key: value for key, value in SMALL.items() if "size" not in key or key == "vocab_size"}
    options = {**size, **ALIKE} if kind == "distilbert" else SMALL
    drop = {"attention_dropout": p, "dropout": p, "seq_classif_dropout": p} if kind == "distilbert" else {
        "attention_probs_dropout_prob": p, "hidden_dropout_prob": p
    }  # fmt: skip
    found = auto.from_config(AutoConfig.for_model(kind, **options, **drop, num_labels=2))
    with torch.no_grad():  # a fresh model's weights are so small that attention is uniform
        for name, parameter in found.named_parameters():
            if parameter.ndim > 1 and "embeddings" not in name:
                parameter.normal_(0, 0.4)
    return found.double()


def padded() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 50, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = mask[3, 3:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


def learnt(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The logits, and the gradient of every weight."""
    model.zero_grad()
    logits = model(**inputs).logits
    functional.cross_entropy(logits, torch.tensor([0, 1, 1, 0])).backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("whole", [True, False], ids=["no padding", "padding"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_token_alone_gives_the_same_logits_and_gradients(kind: str, whole: bool) -> None:
    part = model(kind).train()
    inputs = padded()
    if whole:
        del inputs["attention_mask"]
    expected = learnt(part, inputs)
    widen = first_token.narrow(part)
    assert widen is not None
    seen: list[torch.Size] = []
    body = getattr(part, part.base_model_prefix)
    last = (body.transformer if kind == "distilbert" else body.encoder).layer[-1]
    hook = last.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    found = learnt(part, inputs)
    hook.remove()
    assert seen == [torch.Size([4, 1, 16])]
    torch.testing.assert_close(found, expected)
    widen()
    assert getattr(part, part.base_model_prefix)(**inputs).last_hidden_state.shape == (4, 9, 16)


def test_next_sentence_heads_are_narrowed_and_others_are_not() -> None:
    part = model("bert", AutoModelForNextSentencePrediction).train()
    expected = learnt(part, padded())
    assert first_token.narrow(part) is not None
    torch.testing.assert_close(learnt(part, padded()), expected)
    from transformers import AutoModelForMaskedLM

    assert first_token.narrow(model("bert", AutoModelForMaskedLM)) is None
    eager = model("bert")
    eager.config._attn_implementation = "eager"
    assert first_token.narrow(eager) is None


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_attention_without_a_dropped_weight_is_that_of_torch(kind: str, narrow: bool) -> None:
    expected = learnt(model(kind).train(), padded())
    part = model(kind, p=1e-9).train()
    dropout.quicken(part)
    attention.quicken(part)
    assert part.config._attn_implementation == attention.NAME
    if narrow:
        assert first_token.narrow(part) is None  # it goes by torch's name: narrowed before, as `weights.Trainable` does
        attention.restore(part)
        assert first_token.narrow(part) is not None
        attention.quicken(part)
    torch.testing.assert_close(learnt(part, padded()), expected)


def test_attention_drops_the_share_of_weights_and_looks_at_no_padding() -> None:
    module = torch.nn.Module().train()
    module.dropout, module.is_causal = dropout.FastDropout(0.25, dropout.Stream()), False
    query = torch.zeros(8, 4, 50, 16)
    value = torch.eye(50)[:, :16].expand(8, 4, 50, 16).contiguous()
    mask = torch.ones(8, 1, 1, 50, dtype=torch.bool)
    mask[..., 25:] = False
    found, weights = attention.attend(module, query, query, value, mask, dropout=0.25, scaling=0.25)
    assert weights is None
    assert found.shape == (8, 50, 4, 16)
    kept = found != 0
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(found[kept], torch.full((int(kept.sum()),), 1 / 25 / 0.75))


def test_attention_that_drops_nothing_is_left_to_torch() -> None:
    module = torch.nn.Module().eval()
    module.dropout, module.is_causal = dropout.FastDropout(0.25, dropout.Stream()), False
    query = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    found, _ = attention.attend(module, query, query, query, None, dropout=0.0, scaling=0.3)
    assert torch.equal(found, functional.scaled_dot_product_attention(query, query, query, scale=0.3).transpose(1, 2))
