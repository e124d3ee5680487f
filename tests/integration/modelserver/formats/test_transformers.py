"""Tiny transformers of every objective, with random weights: opened with torch, compiled, and both compared."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.transformers.conftest import minilm, tiny_bert, tiny_gpt2

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compile import Order, compile_model
from mlaas.modelserver.compiled import read
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.base import Opened, Original
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker.start import start

__all__ = ["minilm", "tiny_bert", "tiny_gpt2"]
TEXTS = ["The detector is at CERN, in Geneva.", "short", "a longer text about physics " * 30]


def texts(*items: str) -> Any:
    array = np.empty(len(items), dtype=object)
    array[:] = [item.encode() for item in items]
    return array


def bert(tiny_bert: Path, folder: Path, kind: str, **config: Any) -> Path:
    """A BERT of two layers with the head `kind` and MiniLM's tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    made = transformers.BertConfig.from_pretrained(tiny_bert, **config)
    getattr(transformers, kind)(made).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(tiny_bert / name, folder / name)
    return folder


def opened(folder: Path, **options: Any) -> Original:
    found = registry.detect(folder).open(Opened(folder, options=options))
    assert isinstance(found, Original)
    return found


def compiled(folder: Path, target: Path, **options: Any) -> tuple[Predictor, dict[str, Any]]:
    target.mkdir()
    document = compile_model(Order(source=str(folder), target=str(target), format="huggingface", options=options))
    assert document["kind"] == "text", document.get("reason")
    return read.predictor_of(document, target, folder), document


async def ask(predictor: Predictor, *inputs: Any, outputs: list[str] | None = None, **parameters: Any) -> Response:
    names = [spec.name for spec in predictor.signature.inputs]
    tensors = [Tensor(name, each, "BYTES") for name, each in zip(names, inputs, strict=True)]
    answer = predictor.infer(Request(tensors, outputs=outputs, parameters=parameters))
    return answer if isinstance(answer, Response) else await answer


def column(response: Response, name: str) -> list[Any]:
    found = next(tensor for tensor in response.outputs if tensor.name == name).array.tolist()
    return [item.decode() if isinstance(item, bytes) else item for item in found]


async def both(folder: Path, tmp_path: Path, *inputs: Any) -> Response:
    """The compiled model's answer, after it was found to be the original's."""
    predictor, document = compiled(folder, tmp_path / "compiled")
    original = opened(folder)
    names = [spec.name for spec in original.signature.outputs]
    answer = await ask(predictor, *inputs, outputs=names)
    for tensor, theirs in zip(answer.outputs, original.predict(list(inputs), names), strict=True):
        if theirs.dtype.kind == "f":
            assert np.allclose(tensor.array, theirs, atol=1e-4)
        elif tensor.name not in ("entities", "masks"):  # their JSON holds scores
            assert tensor.array.tolist() == theirs.tolist()
    assert document["parity"]["network_max_absolute"] < 1e-4
    return answer


async def test_text_classification(tiny_bert: Path, tmp_path: Path) -> None:
    labels = {0: "physics", 1: "music", 2: "sport"}
    folder = bert(tiny_bert, tmp_path / "model", "BertForSequenceClassification", num_labels=3, id2label=labels)
    answer = await both(folder, tmp_path, texts(*TEXTS))
    assert set(column(answer, "label")) <= set(labels.values())
    assert np.allclose(np.sum(column(answer, "probabilities"), axis=1), 1, atol=1e-5)
    assert np.allclose(np.max(column(answer, "probabilities"), axis=1), column(answer, "score"))
    assert answer.parameters == {"truncated": 1, "max_length": 64}


async def test_pairs_of_texts_can_be_classified(tiny_bert: Path, tmp_path: Path) -> None:
    folder = bert(tiny_bert, tmp_path / "model", "BertForSequenceClassification", num_labels=2)
    predictor, _ = compiled(folder, tmp_path / "compiled", pairs=True)
    assert [spec.name for spec in predictor.signature.inputs] == ["text", "text_pair"]
    answer = await ask(predictor, texts("a", "b"), texts("c", "d"))
    assert len(column(answer, "label")) == 2


async def test_several_labels_at_once_are_scored_apart(tiny_bert: Path, tmp_path: Path) -> None:
    folder = bert(
        tiny_bert,
        tmp_path / "model",
        "BertForSequenceClassification",
        num_labels=3,
        problem_type="multi_label_classification",
    )
    answer = await both(folder, tmp_path, texts(*TEXTS))
    assert np.abs(np.sum(column(answer, "probabilities"), axis=1) - 1).min() > 0.01


async def test_next_sentence_prediction(tiny_bert: Path, tmp_path: Path) -> None:
    folder = bert(tiny_bert, tmp_path / "model", "BertForNextSentencePrediction")
    answer = await both(folder, tmp_path, texts("It rains.", "Hello."), texts("Take an umbrella.", "x " * 100))
    assert set(column(answer, "label")) <= {"is_next", "not_next"}


async def test_token_classification(tiny_bert: Path, tmp_path: Path) -> None:
    labels = {0: "O", 1: "B-ORG", 2: "I-ORG"}
    folder = bert(tiny_bert, tmp_path / "model", "BertForTokenClassification", num_labels=3, id2label=labels)
    answer = await both(folder, tmp_path, texts(*TEXTS))
    found = [json.loads(item) for item in column(answer, "entities")]
    assert any(found)
    for text, entities in zip(TEXTS, found, strict=True):
        assert all(text[each["start"] : each["end"]] == each["text"] for each in entities)


async def test_question_answering_over_a_context_longer_than_the_model_takes(tiny_bert: Path, tmp_path: Path) -> None:
    folder = bert(tiny_bert, tmp_path / "model", "BertForQuestionAnswering")
    context = "The detector is at CERN. " * 40
    answer = await both(folder, tmp_path, texts("Where is it?", "What?"), texts(context, "short"))
    start, end = column(answer, "start")[0], column(answer, "end")[0]
    assert column(answer, "answer")[0] == context[start:end]
    assert 0 < column(answer, "score")[0] <= 1


async def test_masked_language_model(tiny_bert: Path, tmp_path: Path) -> None:
    folder = bert(tiny_bert, tmp_path / "model", "BertForMaskedLM")
    answer = await both(folder, tmp_path, texts("The [MASK] boson decays to two [MASK]."))
    (masks,) = (json.loads(item) for item in column(answer, "masks"))
    assert [len(each) for each in masks] == [5, 5]
    assert "[MASK]" not in column(answer, "text")[0]
    predictor, _ = compiled(folder, tmp_path / "again")
    few = await ask(predictor, texts("a [MASK]"), top_k=2)
    assert len(json.loads(column(few, "masks")[0])[0]) == 2
    with pytest.raises(Invalid, match=r"has no \[MASK\]"):
        await ask(predictor, texts("nothing to fill"))


async def test_embeddings_are_those_of_the_indexer(minilm: Path, tmp_path: Path) -> None:
    from mlaas.runtimes.embed.encoder import Encoder

    predictor, document = compiled(minilm, tmp_path / "compiled")
    answer = await ask(predictor, texts(*TEXTS))
    vectors, cut = Encoder(minilm).encode(TEXTS)
    assert np.abs(answer.outputs[0].array - vectors).max() < 1e-5
    assert answer.outputs[0].array.dtype == np.float32
    assert predictor.signature.outputs[0].shape == (-1, 384)
    assert answer.parameters.get("truncated", 0) == cut
    assert document["parity"]["max_absolute"] < 1e-5


async def test_no_texts_and_what_is_no_text(tiny_bert: Path, tmp_path: Path) -> None:
    folder = bert(tiny_bert, tmp_path / "model", "BertForSequenceClassification", num_labels=3)
    predictor, _ = compiled(folder, tmp_path / "compiled")
    answer = await ask(predictor, texts(), outputs=["label", "probabilities"])
    assert [tensor.shape for tensor in answer.outputs] == [(0,), (0, 3)]
    broken = np.empty(1, dtype=object)
    broken[:] = [b"\xff\xfe"]
    with pytest.raises(Invalid, match="not UTF-8"):
        await ask(predictor, broken)


async def test_generation_whole_and_streamed_in_a_worker(tiny_gpt2: Path) -> None:
    pool = await start(Deployment(revision="gpt2"), tiny_gpt2)
    try:
        whole = await ask(pool, texts("INFN", "Sez"), outputs=["text", "tokens"], max_new_tokens=12)
        assert all(0 < count <= 12 for count in column(whole, "tokens"))
        request = Request([Tensor("text", texts("INFN"))], parameters={"max_new_tokens": 12})
        pieces = [piece.outputs[0].array[0].decode() async for piece in pool.stream(request)]
        assert len(pieces) > 1
        assert "".join(pieces).rstrip("\ufffd") == column(whole, "text")[0].rstrip("\ufffd")
        one, again, other = [
            column(await ask(pool, texts("INFN"), temperature=5.0, seed=seed, max_new_tokens=20), "text")
            for seed in (1, 1, 2)
        ]
        assert one == again != other
        with pytest.raises(Invalid, match="`max_new_tokens` is a number from 1"):
            await ask(pool, texts("a"), max_new_tokens=0)
    finally:
        await pool.close()


def test_a_head_that_was_never_trained_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(Invalid, match=r"lacks .* of the weights"):
        opened(tiny_bert, objective="token-classification")


def test_tensorflow_weights_are_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(Invalid, match="no weights") as caught:
        opened(tmp_path)
    assert "from_tf" in (caught.value.hint or "")
