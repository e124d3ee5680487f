"""What is no model, or a tokenizer that does not fit it, is refused without any framework."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlaas.kernel.errors import Invalid
from mlaas.kinds.task import content
from mlaas.kinds.task.schema import parse
from mlaas.runtimes.model_folder import check_fit, check_model, check_tokenizer, conversion, vocabulary_size

CONFIG = {"model_type": "bert", "vocab_size": 4}


def weights(values: int = 2) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * values)


def tokenizer(size: int, added: int = 0) -> dict[str, Any]:
    vocabulary = {f"t{i}": i for i in range(size)}
    return {"model": {"vocab": vocabulary}, "added_tokens": [{"id": size + i, "content": str(i)} for i in range(added)]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(weights())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(4)))
    return folder


def refused(folder: Path, message: str) -> Invalid:
    with pytest.raises(Invalid, match=message) as caught:
        check_model(folder, "text-classification", shown="mine")
    assert caught.value.field == "model.path"
    assert caught.value.hint
    return caught.value


def test_a_whole_folder_is_a_model(model: Path) -> None:
    assert check_model(model, "text-classification") == CONFIG
    assert check_tokenizer(model) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is broken: it is no JSON"),
        ("{", "is broken: it is no JSON"),
        ("\x00\x01", "is broken"),
        ("[" * 100_000, "is broken"),
        ("[]", "names no model_type"),
        ("{}", "names no model_type"),
        ('{"model_type": 5}', "names no model_type"),
    ],
)
def test_a_configuration_that_is_none(model: Path, text: str, message: str) -> None:
    (model / "config.json").write_text(text)
    refused(model, message)


def test_numbers_that_only_python_writes_are_read(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "mamba2", "time_step_limit": [0.0, Infinity]}')
    assert check_model(model, "causal-lm")["model_type"] == "mamba2"


def test_weights_that_are_missing_damaged_or_cut_short(model: Path) -> None:
    whole = weights(1000)
    for data, message in (
        (b"", "header is cut short"),
        (b"\xff" * 100, "header is cut short"),
        (struct.pack("<Q", 10) + b"not a header", "has no header"),
        (whole[:-500], "500 of its bytes are missing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "pointer of Git LFS"),
    ):
        (model / "model.safetensors").write_bytes(data)
        refused(model, message)
    (model / "model.safetensors").unlink()
    refused(model, "no weights")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    refused(model, "lacks 1 of the 1 files of its weights, such as model-1.safetensors")
    (model / "model-1.safetensors").write_bytes(weights())
    check_model(model, "text-classification")


def test_only_tensorflow_weights_come_with_the_command_that_converts_them(model: Path) -> None:
    (model / "model.safetensors").rename(model / "tf_model.h5")
    hint = refused(model, "only TensorFlow weights").hint or ""
    assert conversion(model, "text-classification") in hint
    assert "AutoModelForSequenceClassification" in hint
    assert "from_tf=True" in hint


def test_the_highest_token_decides_whether_a_tokenizer_fits(model: Path) -> None:
    for name, text, highest in (
        ("tokenizer.json", json.dumps(tokenizer(4, added=2)), 5),
        ("tokenizer.json", json.dumps({"model": {"vocab": [["a", 0.0], ["b", -1.0]]}}), 1),
        ("vocab.txt", "a\nb\nc\n", 2),
        ("vocab.txt", "a\nb\nc", 2),
        ("vocab.json", '{"a": 0, "b": 7}', 7),
        ("spiece.model", "", None),
    ):
        folder = model.parent / f"{name}-{highest}-{len(text)}"
        folder.mkdir()
        (folder / name).write_text(text)
        assert check_tokenizer(folder) == highest, name
    assert vocabulary_size(CONFIG) == 4
    assert vocabulary_size({"text_config": {"vocab_size": 9}}) == 9
    check_fit(3, 4)
    check_fit(None, 4)
    with pytest.raises(Invalid, match="token ids up to 4, the model embeds 4 tokens") as caught:
        check_fit(4, 4, field="model.path")
    assert caught.value.field == "model.path"


def test_a_tokenizer_that_is_none(model: Path) -> None:
    (model / "tokenizer.json").write_text('{"model": 5}')
    with pytest.raises(Invalid, match=r"tokenizer.json is damaged"):
        check_tokenizer(model)
    (model / "tokenizer.json").unlink()
    with pytest.raises(Invalid, match="holds no tokenizer"):
        check_tokenizer(model)


def test_a_link_out_of_the_roots_is_left_to_the_task(model: Path, tmp_path: Path) -> None:
    spec = parse({"recipe": "predict", "model": {"path": "model"}, "predict_input": {"input_text": ["a"]}})
    outside = tmp_path / "outside.json"
    outside.write_text("no JSON")
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(outside)
    content.check(spec, {"model": model}, lambda path: path.is_relative_to(model))
    with pytest.raises(Invalid, match="is broken"):
        content.check(spec, {"model": model}, lambda path: True)


def test_no_framework_is_imported() -> None:
    code = (
        "import sys, mlaas.runtimes.model_folder, mlaas.kinds.task.content\n"
        "assert not {'torch', 'numpy', 'pyarrow', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
