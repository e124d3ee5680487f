"""What is looked at before a task is accepted."""

import pytest

from mlaas.kernel.blobs.uri import file_uri
from mlaas.kernel.errors import Invalid
from mlaas.kinds.task.references import _check_content, readings, targets
from mlaas.kinds.task.schema import parse

TRAIN = {
    "recipe": "finetune",
    "model": {"path": "m"},
    "tokenizer": {"path": "t"},
    "dataset": {"path": "d"},
    "model_train": {},
    "model_save": {"path": "s"},
}


def test_all_that_a_training_reads_and_writes():
    spec = parse(TRAIN)
    assert [reading.field for reading in readings(spec)] == ["model", "tokenizer", "dataset"]
    assert list(targets(spec)) == ["model_save"]
    script = parse({"recipe": "script", "command": ["a"], "inputs": {"b": {"path": "x"}}})
    assert [reading.field for reading in readings(script)] == ["inputs.b"]


def look(folder):
    _check_content(file_uri(folder), readings(parse(TRAIN))[0])


def test_a_model_is_a_folder_with_a_configuration(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Invalid, match=r"no config.json. It holds notes.txt"):
        look(tmp_path)
    with pytest.raises(Invalid, match="is a file"):
        look(tmp_path / "notes.txt")


def test_only_tensorflow_weights_come_with_the_command_that_converts_them(tmp_path):
    for name in ("config.json", "tf_model.h5"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(Invalid, match="only TensorFlow weights") as caught:
        look(tmp_path)
    assert "AutoModelForSequenceClassification" in caught.value.hint
    assert "from_tf=True" in caught.value.hint
    (tmp_path / "model.safetensors").write_text("")
    look(tmp_path)
