"""Data sets that cannot be trained on: the error says which field, where, and what to do."""

import json

import pytest

from .conftest import prediction, training

pytestmark = pytest.mark.slow

ROWS = [("INFN Bari", "BA"), ("CERN Geneva", "none")] * 8


def lines(header=("text", "label"), rows=ROWS, delimiter=","):
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [header, *rows])


@pytest.mark.parametrize(
    ("content", "field", "words"),
    [
        ("", "dataset.path", ["empty"]),
        ("text,label\n", "dataset.path", ["empty"]),
        (lines(("title", "label")), "dataset.loader_kwargs.text_column", ["'text'", "'title'", "'label'"]),
        (lines(("text", "lable")), "dataset.loader_kwargs.label_column", ["'label'", "'lable'"]),
        (lines(("Text", "Label")), "dataset.loader_kwargs.text_column", ["'Text'", "'Label'"]),
        (lines(rows=[("INFN Bari", "BA")] * 16), "dataset.label_column", ["'BA'"]),
        (lines(rows=[("INFN Bari", "0.5"), ("CERN", "1.5")] * 8), "dataset.label_column", ["text or whole numbers"]),
        (lines(rows=[("INFN Bari", ""), ("CERN", "CH")] * 8), "dataset.label_column", ["row 1"]),
        (lines(rows=[*ROWS, ("Frascati", "LNF", "extra"), *ROWS]), "dataset.path", ["line 18", "3 cells"]),
        (lines(rows=[*ROWS, ("Frascati",), *ROWS]), "dataset.path", ["line 18", "1 cells"]),
        (lines(rows=[("Università", "BO"), *ROWS]).encode("cp1252"), "dataset.loader_kwargs.encoding", ["line 2", "cp1252"]),
        (lines(rows=[*ROWS, ("Università", "BO")]).encode("latin-1"), "dataset.loader_kwargs.encoding", ["line 18"]),
        (lines().encode("utf-16"), "dataset.loader_kwargs.encoding", ["utf-16"]),
        (b"PK\x03\x04" + bytes(range(256)) * 4, "dataset", []),
        ("text,text\na,b\n", "dataset.path", ["2 times"]),
    ],
)  # fmt: skip
def test_csv(asked, files, tmp_path_factory, content, field, words):
    path = files / f"bad{len(list(files.iterdir()))}.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    error = asked.said(training(path.name))
    assert error["field"].startswith(field), error
    assert error["hint"]
    for word in words:
        assert word in error["message"], error


def test_labels_that_are_lists(asked, files):
    (files / "lists.jsonl").write_text("".join(json.dumps({"text": "a", "label": ["x"]}) + "\n" for _ in range(8)))
    error = asked.said(training("lists.jsonl"))
    assert error["field"] == "dataset.label_column"
    assert "text or whole numbers" in error["message"]


def test_labels_of_two_types_and_a_broken_line(asked, files):
    (files / "mixed.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": 1}\n')
    assert "line 2" in asked.said(training("mixed.jsonl"))["message"]
    (files / "broken.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": \n')
    assert "line 2" in asked.said(training("broken.jsonl"))["message"]


def test_other_formats_that_are_not_what_they_say(asked, files):
    for name in ("no.parquet", "no.arrow", "no.json"):
        (files / name).write_text("this is text\n")
        error = asked.said(training(name))
        assert error["field"] == "dataset.path"
        assert name in error["message"]
    (files / "what.xyz").write_text("?")
    assert asked.said(training("what.xyz"))["field"].startswith("dataset")


@pytest.mark.parametrize("split", [0.001, 16, 40, 1000])
def test_a_split_that_leaves_nothing(asked, files, split):
    (files / "sixteen.csv").write_text(lines())
    error = asked.said(training("sixteen.csv", {"train_test_split": split}))
    assert error["field"] == "dataset.train_test_split"
    assert "16" in error["message"]


def test_a_split_and_columns_that_are_not_there(asked, files):
    assert asked.said(training(dataset={"split": "validation"}))["field"] == "dataset.split"
    error = asked.said(training(dataset={"label_column": "klass"}))
    assert error["field"] == "dataset.label_column"
    assert "'text', 'label'" in error["message"]
    error = asked.said(training(dataset={"loader_kwargs": {"encoding": "utf-9"}}))
    assert error["field"] == "dataset.loader_kwargs.encoding"


def test_an_empty_folder_and_a_missing_file(asked, files):
    (files / "nothing").mkdir()
    for name in ("nothing", "absent.csv"):
        assert asked.refused(training(name))["errors"][0]["field"] == "dataset.path"


def test_a_loss_that_is_no_number_stops_with_its_step(asked, files):
    explosive = {"name": "SGD", "init_lr": 10.0, "weight_decay_rate": 10.0}
    error = asked.said(training(epochs=50, max_grad_norm=1e30, optimizer=explosive))
    assert "step" in error["message"], error
    assert "init_lr" in f"{error['hint']} {error['field']}"


def test_an_input_longer_than_the_model_takes_is_said(asked, files):
    body = prediction(model={"path": "model", "storage_type": "local", "objective": "no-objective"})
    body["predict_input"] = {"input_text": ["INFN Bari", "Istituto Nazionale di Fisica Nucleare " * 50]}
    answer = asked.ended(body)
    assert answer["task_status"] == "succeeded"
    assert len(answer["predictions"]) == 2
    assert "64" in " ".join(answer["warnings"])


def test_rows_longer_than_the_model_takes_are_said(asked, files):
    (files / "long.csv").write_text(lines(rows=[("Istituto Nazionale " * 60, "BA"), *ROWS]))
    answer = asked.ended(training("long.csv"))
    assert answer["task_status"] == "succeeded"
    assert any("64" in warning for warning in answer["warnings"]), answer["warnings"]
