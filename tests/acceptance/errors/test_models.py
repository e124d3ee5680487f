"""Models and tokenizers that cannot be used."""

import json
import pickle
import shutil

import pytest

from .conftest import prediction, training

pytestmark = pytest.mark.slow


@pytest.fixture
def broken(files):
    """A copy of the model, to be broken."""
    folder = files / f"broken{len(list(files.iterdir()))}"
    shutil.copytree(files / "model", folder)
    return folder


def model(folder, objective="text-classification"):
    return {"path": folder.name, "storage_type": "local", "objective": objective}


def test_no_model_there(asked, files):
    (files / "notes").mkdir()
    (files / "notes" / "a.txt").write_text("x")
    for path in ("absent", "notes", "good.csv", "../model", "/etc"):
        for body in (prediction(), training()):
            problem = asked.refused(
                {**body, "model": {"path": path, "storage_type": "local", "objective": "text-classification"}}
            )
            assert problem["errors"][0]["field"] == "model.path"
    assert (
        "config.json"
        in asked.refused(prediction(model={"path": "notes", "objective": "text-classification"}))["detail"]
    )


def test_only_tensorflow_weights(asked, files, broken):
    (broken / "model.safetensors").rename(broken / "tf_model.h5")
    problem = asked.refused(prediction(model=model(broken)))
    assert problem["errors"][0]["field"] == "model.path"
    assert "from_tf=True" in problem["hint"]
    assert "AutoModelForSequenceClassification" in problem["hint"]


def test_no_weights(asked, files, broken):
    (broken / "model.safetensors").unlink()
    assert asked.refused(prediction(model=model(broken)))["errors"][0]["field"] == "model.path"


def refused(asked, body, field, *words):
    """Refused at once, with the field and these words in the message."""
    problem = asked.refused(body)
    assert problem["errors"][0]["field"] == field, problem
    assert problem["hint"]
    for word in words:
        assert word in problem["detail"], problem
    return problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "broken"),
        ("[]", "model_type"),
        ("{}", "model_type"),
        ('{"model_type": 5}', "model_type"),
        ("\x00\x01", "broken"),
        ('{"model_type": "bert", ', "broken"),
    ],
)
def test_a_configuration_that_is_none(asked, files, broken, text, words):
    (broken / "config.json").write_text(text)
    for body in (prediction(model=model(broken)), {**training(), "model": model(broken)}):
        refused(asked, body, "model.path", broken.name, words)


@pytest.mark.parametrize("text", ['{"model_type": "nonesuch"}', '{"model_type": "vit"}'])
def test_an_architecture_that_is_none(asked, files, broken, text):
    (broken / "config.json").write_text(text)
    error = asked.said(prediction(model=model(broken)))
    assert error["field"].startswith("model"), error


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 8, b"\xff" * 100, b"\x10\x00\x00\x00\x00\x00\x00\x00not a header at all"]
)
def test_weights_that_are_none(asked, files, broken, content):
    (broken / "model.safetensors").write_bytes(content)
    refused(asked, prediction(model=model(broken)), "model.path", "model.safetensors is damaged")


def test_weights_that_were_not_copied_whole(asked, files, broken):
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(asked, {**training(), "model": model(broken)}, "model.path", "bytes are missing")


@pytest.mark.parametrize("how", ["plain", "torch"])
def test_a_pickle_is_never_run(asked, files, broken, how):
    target = files / "pickle-was-run"

    class Write:
        def __reduce__(self):
            return (open, (str(target), "w"))

    (broken / "model.safetensors").unlink()
    if how == "plain":
        (broken / "pytorch_model.bin").write_bytes(pickle.dumps(Write()))
    else:
        import torch

        torch.save({"a": Write()}, broken / "pytorch_model.bin")
    error = asked.said(prediction(model=model(broken)))
    assert error["field"] == "model.path", error
    assert not target.exists()


def test_weights_of_another_model(asked, files, broken):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "hidden_size": 64, "intermediate_size": 48}))
    error = asked.said(prediction(model=model(broken)))
    assert error["field"] == "model.path", error


def test_a_tokenizer_that_does_not_fit(asked, files, broken):
    """Its vocabulary is larger than the model's table of embeddings."""
    document = json.loads((broken / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    for i in range(len(vocabulary), len(vocabulary) + 3000):
        vocabulary[f"zzz{i}"] = i
    (broken / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = {"path": broken.name, "storage_type": "local"}
    for body in (prediction(tokenizer=tokenizer), {**training(), "tokenizer": tokenizer}):
        refused(asked, body, "tokenizer.path", "does not fit", "30522 tokens", "33521")
    refused(asked, prediction(model=model(broken)), "model.path", "does not fit")


def test_no_tokenizer(asked, files, broken):
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (broken / name).unlink()
    tokenizer = {"path": broken.name, "storage_type": "local"}
    refused(asked, prediction(model=model(broken)), "model.path", "holds no tokenizer")
    refused(asked, prediction(tokenizer=tokenizer), "tokenizer.path", "holds no tokenizer")
    (broken / "tokenizer.json").write_text("{")
    refused(asked, prediction(tokenizer=tokenizer), "tokenizer.path", "tokenizer.json is damaged")


def test_custom_code_is_never_run(asked, files, broken):
    config = json.loads((broken / "config.json").read_text())
    target = files / "code-was-run"
    (broken / "evil.py").write_text(f"open({str(target)!r}, 'w')\nclass C: pass\n")
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.C"},
    }
    (broken / "config.json").write_text(json.dumps(config))
    assert asked.said(prediction(model=model(broken)))["field"].startswith("model")
    assert not target.exists()


def test_an_index_that_is_none_and_a_model_without_its_objective(asked, files):
    body = {
        "model": {"path": "model", "storage_type": "local", "objective": "no-objective"},
        "dataset": {"path": "good.csv", "storage_type": "local", "format": "vector_store"},
        "search_input": {"input_text": ["Bari"]},
    }
    refused(asked, body, "dataset.path", "'good.csv' is a file, no vector store")
    (files / "folder").mkdir(exist_ok=True)
    (files / "folder" / "a.txt").write_text("x")
    body["dataset"]["path"] = "folder"
    refused(asked, body, "dataset.path", "'folder' is no vector store. It holds a.txt")
    (files / "folder" / "index.faiss").write_bytes(b"")
    (files / "folder" / "vector_store.json").write_text("{}")
    refused(asked, body, "dataset.path", "'folder' is damaged")
    assert asked.said(
        {**prediction(), "model": {"path": "model", "storage_type": "local", "objective": "question-answering"}}
    )["field"]
