"""Wrong bodies: refused at once, with a 4xx that names the field."""

import subprocess

import pytest

from .conftest import prediction, training


def changed(body, path, value):
    """A copy of `body` with `value` at the dotted path."""
    head, _, rest = path.partition(".")
    return {**body, head: changed(body.get(head, {}), rest, value) if rest else value}


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("modle_train", "model_train"),
        ("model.objectiv", "objective"),
        ("dataset.train_test_spilt", "train_test_split"),
        ("model_train.epoch", "epochs"),
        ("model_train.optimizer.init_learning_rate", "init_lr"),
        ("dataset.loader_kwargs.text_colum", "text_column"),
        ("dataset.augment.factr", "factor"),
        ("retry", "retries"),
    ],
)
def test_unknown_key_is_named_with_the_nearest(asked, files, path, nearest):
    problem = asked.refused(changed(training(), path, 1))
    assert any(entry["field"] == path for entry in problem["errors"]), problem
    assert nearest in str(problem)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_train.epochs", 0),
        ("model_train.epochs", -1),
        ("model_train.epochs", 1.5),
        ("model_train.epochs", True),
        ("model_train.batch_size", 0),
        ("model_train.optimizer.init_lr", -2e-5),
        ("model_train.optimizer.init_lr", 0),
        ("model_train.optimizer.init_lr", "fast"),
        ("model_train.optimizer.weight_decay_rate", -0.1),
        ("model_train.optimizer.num_warm_steps", -1),
        ("model_train.optimizer.name", "Adamm"),
        ("model_train.mlm_probability", -0.1),
        ("model_train.lora", {"r": 0}),
        ("model_train.early_stopping", {"patience": 0}),
        ("dataset.train_test_split", -0.1),
        ("dataset.train_test_split", 0),
        ("dataset.train_test_split", 1.5),
        ("dataset.augment", {"factor": -3}),
        ("dataset.storage_type", "ftp"),
        ("dataset.format", "xlsx"),
        ("model.objective", "text-clasification"),
        ("resources", {"cpu": -1}),
        ("resources", {"memory": "lots"}),
        ("time_limit", -1),
        ("retries", -1),
        ("ttl_after_finished", -1),
        ("name", "../../etc"),
        ("name", "A B"),
        ("name", "-"),
        ("name", "x" * 5000),
        ("project", "../default"),
        ("engine", "../local"),
    ],
)
def test_wrong_value(asked, files, path, value):
    problem = asked.refused(changed(training(), path, value))
    fields = [entry["field"] for entry in problem["errors"]]
    assert any(field.startswith(path) or field.endswith(path) for field in fields), problem


@pytest.mark.parametrize("text", ["", "a: [", "{", "just words", "[]", "1", "null", '{"model": 1, "model": 2}'])
def test_a_body_that_is_no_task(asked, text):
    answer = asked.request("POST", "/api/v1/tasks", content=text)
    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("path", ["/api/v1/tasks", "/api/v1/projects/default/tasks", "/api/v1/apply"])
def test_a_body_nested_a_thousand_deep(asked, path, open_, close):
    text = open_ * 1000 + "1" + close * 1000
    for kind in ("application/json", "application/yaml", "application/x-www-form-urlencoded"):
        answer = asked.request("POST", path, content=text, headers={"Content-Type": kind})
        assert answer.status_code == 400, answer.text
        assert "deep" in answer.json()["detail"]


def test_a_body_of_100_mb_by_curl(platform, asked, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * (100 << 20))
    command = ["curl", "-sS", "-w", "%{http_code}", "-H", f"Authorization: Bearer {platform.token}"]
    for sending in (
        ["-d", f"@{body}"],
        ["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "--data-binary", f"@{body}"],
    ):
        said = subprocess.run([*command, *sending, f"{platform.url}/api/v1/tasks"], capture_output=True, text=True)
        assert said.stdout.endswith("413"), (said.stdout[-500:], said.stderr)
    assert asked.request("GET", "/readyz").status_code == 200


def test_many_inputs_of_the_wrong_shape(asked, files):
    problem = asked.refused(prediction(predict_input={"input_text": ["a", 5]}))
    assert problem["errors"][0]["field"].startswith("predict_input")
    problem = asked.refused(prediction(predict_input={"input_text": []}))
    assert problem["errors"][0]["field"] == "predict_input.input_text"
