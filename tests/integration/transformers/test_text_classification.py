import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlaas.kernel.errors import Error, Exists, Invalid
from mlaas.runtimes.taskfile import TaskFile
from mlaas.runtimes.transformers import finetune, predict

from .conftest import affiliations, write_csv

Make = Callable[..., TaskFile]


def params(model: Path, data: Path, **train: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model)},
        "dataset": {"path": str(data), "train_test_split": 0.2},
        "model_train": {"epochs": 2, "batch_size": 16, "optimizer": {"init_lr": 3e-4}, "max_length": 32, **train},
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv", ("text", "label"), affiliations(240))


def test_trains_saves_and_predicts(task: Make, minilm: Path, data: Path, workdir: Path) -> None:
    result = finetune.main(task("finetune", params(minilm, data)))
    assert len(result["history"]["loss"]) == 2
    assert result["history"]["loss"][1] < result["history"]["loss"][0]
    evaluation = result["evaluation"]
    assert evaluation["accuracy"] > 0.9
    assert set(evaluation["per_class"]) == {"BA", "LNF", "PI", "none"}
    assert sum(map(sum, evaluation["confusion_matrix"]["matrix"])) == 48
    assert result["dataset"]["samples_train"] == 192
    assert result["dataset"]["tokens"] > 240 * 5
    config = json.loads((workdir / "output/config.json").read_text())
    assert list(config["id2label"].values()) == ["BA", "LNF", "PI", "none"]
    from safetensors import safe_open

    with safe_open(workdir / "output/model.safetensors", "pt") as saved:
        assert saved.get_slice("bert.embeddings.word_embeddings.weight").get_shape() == [30522, 384]
    asked = {
        "model": {"path": str(workdir / "output")},
        "predict_input": {"input_text": ["INFN, Sez, Bari", "CERN, Geneva"]},
    }
    answers = predict.main(task("predict", asked))["predictions"]
    assert [answer["label"] for answer in answers] == ["BA", "none"]
    assert sum(answers[0]["scores"].values()) == pytest.approx(1, abs=1e-4)


def test_a_repeated_attempt_returns_what_was_committed(task: Make, minilm: Path, tmp_path: Path) -> None:
    body = params(minilm, write_csv(tmp_path / "few.csv", ("text", "label"), affiliations(40)), epochs=1) | {
        "model_save": {"path": str(tmp_path / "saved")}
    }
    outputs = {"model_save": f"file://{tmp_path / 'saved'}"}
    first = finetune.main(task("finetune", body, outputs=outputs))
    again = finetune.main(task("finetune", body, outputs=outputs, attempt=2))
    assert again["output"] == first["output"]
    assert again["history"] == first["history"]
    with pytest.raises(Exists):
        finetune.main(task("finetune", body, outputs=outputs, uid="u2"))


def refused(task: TaskFile) -> Error:
    with pytest.raises(Error) as caught:
        finetune.main(task)
    assert caught.value.hint
    return caught.value


def test_a_missing_column_is_named_with_those_found(task: Make, minilm: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "d.csv", ("text", "lable"), affiliations(20))
    error = refused(task("finetune", params(minilm, data)))
    assert "'lable'" in error.message


def test_one_class_is_refused(task: Make, minilm: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "d.csv", ("text", "label"), [(text, "BA") for text, _ in affiliations(20)])
    error = refused(task("finetune", params(minilm, data)))
    assert error.field == "dataset.label_column"


def test_a_folder_with_tensorflow_weights_only_is_refused_with_the_command(
    task: Make, data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "old"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "bert"}')
    (model / "tf_model.h5").write_bytes(b"x")
    error = refused(task("finetune", params(model, data)))
    assert "from_tf=True" in (error.hint or "")
    assert error.field == "model.path"


def test_a_folder_that_is_no_model_is_refused(task: Make, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(task("finetune", params(tmp_path / "empty", data))).field == "model.path"


def test_a_loss_that_is_no_number_stops_with_the_step(task: Make, tiny_bert: Path, data: Path) -> None:
    with pytest.raises(Invalid, match=r"at step \d+ of") as caught:
        finetune.main(task("finetune", params(tiny_bert, data, class_weights={"BA": 3e38})))
    assert "init_lr" in (caught.value.hint or "")


def test_a_head_with_other_labels_is_not_overwritten(task: Make, tiny_bert: Path, tmp_path: Path) -> None:
    few = write_csv(tmp_path / "few.csv", ("text", "label"), affiliations(40))
    finetune.main(task("finetune", params(tiny_bert, few, epochs=1)))
    more = write_csv(
        tmp_path / "more.csv", ("text", "label"), [*affiliations(40), ("INFN Lecce", "LE"), ("INFN Lecce 2", "LE")]
    )
    error = refused(task("finetune", params(Path("output").absolute(), more, epochs=1), uid="u2"))
    assert "'LE'" in error.message


def test_a_tokenizer_that_does_not_fit_is_refused(task: Make, tiny_gpt2: Path, minilm: Path, data: Path) -> None:
    error = refused(task("finetune", params(tiny_gpt2, data) | {"tokenizer": {"path": str(minilm)}}))
    assert error.field == "tokenizer.path"


def test_enlarged_copies_of_test_rows_never_train(task: Make, tiny_bert: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "d.csv", ("text", "label"), affiliations(60))
    body = params(tiny_bert, data, epochs=1)
    body["dataset"]["augment"] = {"factor": 3}
    result = finetune.main(task("finetune", body))
    assert result["dataset"]["samples_test"] == 12
    assert result["dataset"]["samples_train"] > 100


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "Adafactor"])
def test_every_optimizer_lowers_the_loss(task: Make, tiny_bert: Path, data: Path, optimizer: str) -> None:
    rate = 0.05 if optimizer == "SGD" else 3e-3
    body = params(
        tiny_bert, data, epochs=3, optimizer={"name": optimizer, "init_lr": rate}, scheduler="cosine", accumulation=2
    )
    history = finetune.main(task("finetune", body))["history"]["loss"]
    assert history[-1] < history[0]


def test_adapters_are_merged_into_the_saved_weights(task: Make, tiny_bert: Path, data: Path, workdir: Path) -> None:
    body = params(tiny_bert, data, lora={"r": 4}, optimizer={"init_lr": 1e-2}, class_weights="balanced")
    result = finetune.main(task("finetune", body))
    assert result["history"]["loss"][-1] < result["history"]["loss"][0]
    from safetensors import safe_open

    with safe_open(workdir / "output/model.safetensors", "pt") as saved:
        assert not [name for name in saved.keys() if "lora" in name]  # noqa: SIM118
