"""An encoder's vectors are those of sentence-transformers; what does not fit is refused."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from mlaas.kernel.errors import Error, Invalid, NotFound
from mlaas.runtimes.embed.encoder import Encoder

TEXTS = ["INFN Frascati", "", "a " * 400, "The black hole images obtained with the Event Horizon Telescope", "città è"]


def copy(model: Path, target: Path) -> Path:
    """A copy whose large files are links."""
    shutil.copytree(
        model,
        target,
        copy_function=lambda a, b: Path(b).symlink_to(a) if a.endswith(".safetensors") else shutil.copy(a, b),
    )
    return target


def test_vectors_agree_with_sentence_transformers(minilm: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        expected = SentenceTransformer(str(minilm), device="cpu").encode(TEXTS)
    encoder = Encoder(minilm)
    vectors, truncated = encoder.encode(TEXTS, batch_size=2)
    assert (encoder.dimension, encoder.max_length, truncated) == (384, 256, 1)
    assert (encoder.pooling.name, encoder.pooling.normalize) == ("mean", True)
    assert np.abs(vectors - expected).max() < 1e-5
    assert encoder.encode([])[0].shape == (0, 384)


@pytest.mark.parametrize("mode", ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ["mean", "max"]])
def test_every_pooling_agrees_with_sentence_transformers(minilm: Path, tmp_path: Path, mode: str | list[str]) -> None:
    model = copy(minilm, tmp_path / "model")
    (model / "modules.json").write_text(json.dumps(json.loads((model / "modules.json").read_text())[:2]))
    width = 384 * (len(mode) if isinstance(mode, list) else 1)
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 384, "pooling_mode": mode}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        expected = SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    vectors, _ = Encoder(model).encode(TEXTS)
    assert vectors.shape == (5, width)
    assert np.abs(vectors - expected).max() < 1e-4


def test_prompts_go_before_the_text_by_role(minilm: Path, tmp_path: Path) -> None:
    model = copy(minilm, tmp_path / "model")
    (model / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "passage": "passage: "}})
    )
    prompted, plain = Encoder(model), Encoder(minilm)
    for role, prompt in (("query", "query: "), ("document", "passage: ")):
        assert np.allclose(prompted.encode(["x"], role=role)[0], plain.encode([prompt + "x"])[0], atol=1e-6)  # type: ignore[arg-type]


def test_a_model_without_a_configuration_is_pooled_by_the_mean(minilm: Path, tmp_path: Path) -> None:
    model = copy(minilm, tmp_path / "model")
    (model / "modules.json").unlink()
    encoder, own = Encoder(model), Encoder(minilm)
    assert encoder.max_length == 512
    vectors = encoder.encode(TEXTS[:2])[0]
    assert np.allclose(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), own.encode(TEXTS[:2])[0], atol=1e-5)


def test_what_is_no_model_is_refused(minilm: Path, tmp_path: Path) -> None:
    def refused(
        model: Path, message: str, kind: type[Error] = Invalid, field: str = "model.path", tokenizer: Path | None = None
    ) -> None:
        with pytest.raises(kind, match=message) as caught:
            Encoder(model, tokenizer)
        assert caught.value.field == field
        assert caught.value.hint

    refused(tmp_path / "missing", "no model at")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "no config.json. It holds nothing")
    (empty / "config.json").write_text("{}")
    refused(empty, "names no model_type")
    (empty / "config.json").write_text('{"model_type": "bert"}')
    refused(empty, "no weights")
    (empty / "tf_model.h5").write_bytes(b"")
    refused(empty, "only TensorFlow weights")
    (empty / "model.safetensors").write_bytes(b"damaged")
    refused(empty, "cannot be loaded: model.safetensors is damaged")
    model = copy(minilm, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 8}))
    refused(model, "do not fit its configuration")
    (model / "config.json").write_text(json.dumps(config))
    (model / "modules.json").write_text('[{"type": "my.own.Step", "path": ""}]')
    refused(model, "a step of kind Step")
    (model / "modules.json").write_text('[{"type": "x.Pooling", "path": "../.."}]')
    refused(model, "leaves the folder")
    (model / "modules.json").unlink()
    refused(model, "no tokenizer folder", NotFound, "tokenizer.path", tmp_path / "missing")
    refused(model, "holds no tokenizer", field="tokenizer.path", tokenizer=empty)


def test_a_tokenizer_of_another_model_is_refused(minilm: Path, tmp_path: Path) -> None:
    other = copy(minilm, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = list(tokenizer["model"]["vocab"])
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    plain = [token for token in vocabulary if token not in special]
    swapped = dict(zip(plain, [tokenizer["model"]["vocab"][token] for token in reversed(plain)], strict=True))
    tokenizer["model"]["vocab"].update(swapped)
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(Invalid, match="does not fit the model") as caught:
        Encoder(minilm, other)
    assert caught.value.field == "tokenizer.path"
    assert Encoder(minilm, copy(minilm, tmp_path / "same")).dimension == 384
