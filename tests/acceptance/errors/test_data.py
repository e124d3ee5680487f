"""Data sets that cannot be trained on: the error says which field, where, and what to do."""

import gzip
import json
import os
import shutil
import time

import pytest

from .conftest import prediction, training

pytestmark = pytest.mark.slow

ROWS = [("INFN Bari", "BA"), ("CERN Geneva", "none")] * 8


def refused(asked, body, field, *words):
    """Refused at once with 422, the field, these words in the message, and a hint; no task is kept."""
    problem = asked.refused(body)
    assert problem["errors"][0]["field"].startswith(field), problem
    assert problem["hint"]
    for word in words:
        assert word in problem["detail"], problem
    return problem


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
    refused(asked, training(path.name), field, *words)


def test_labels_that_are_lists(asked, files):
    (files / "lists.jsonl").write_text("".join(json.dumps({"text": "a", "label": ["x"]}) + "\n" for _ in range(8)))
    refused(asked, training("lists.jsonl"), "dataset.label_column", "'label' holds lists", "text or whole numbers")


def test_labels_of_two_types_and_a_broken_line(asked, files):
    (files / "mixed.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": 1}\n')
    refused(asked, training("mixed.jsonl"), "dataset.path", "'label' mixes types", "text in line 1", "number in line 2")
    (files / "broken.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": \n')
    refused(asked, training("broken.jsonl"), "dataset.path", "line 2", "not JSON")
    (files / "cut.json").write_text('[{"text": "a", "label": "x"},\n{"text": ')
    refused(asked, training("cut.json"), "dataset.path", "line 2", "the file ends in the middle")


def test_other_formats_that_are_not_what_they_say(asked, files):
    (files / "no.json").write_text("this is text\n")
    refused(asked, training("no.json"), "dataset.path", "no.json", "line 1")
    for name in ("no.parquet", "no.arrow"):  # what they hold only their library knows
        (files / name).write_text("this is text\n")
        error = asked.said(training(name))
        assert error["field"] == "dataset.path"
        assert name in error["message"]
    (files / "what.xyz").write_text("?")
    refused(asked, training("what.xyz"), "dataset")
    (files / "cut.csv.gz").write_bytes(gzip.compress(lines().encode())[:-9])
    refused(asked, training("cut.csv.gz"), "dataset.path", "cannot be decompressed")


@pytest.mark.parametrize("split", [0.001, 16, 40, 1000])
def test_a_split_that_leaves_nothing(asked, files, split):
    (files / "sixteen.csv").write_text(lines())
    refused(asked, training("sixteen.csv", {"train_test_split": split}), "dataset.train_test_split", "16")


def test_a_split_and_columns_that_are_not_there(asked, files):
    refused(asked, training(dataset={"split": "validation"}), "dataset.split", "'validation'", "it has train")
    refused(asked, training(dataset={"label_column": "klass"}), "dataset.label_column", "'text', 'label'")
    refused(asked, training(dataset={"loader_kwargs": {"encoding": "utf-9"}}), "dataset.loader_kwargs.encoding")


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("next-sentence-prediction", "'text_pair'"),
        ("question-answering", "'question'"),
        ("token-classification", "'tokens'"),
    ],
)
def test_columns_that_an_objective_needs(asked, files, objective, words):
    body = training()
    body["model"]["objective"] = objective
    refused(asked, body, "dataset.loader_kwargs", "no column", words, "Columns found: 'text', 'label'")


def test_labels_that_the_model_or_the_weights_do_not_know(asked, files):
    headed = files / "headed"
    shutil.copytree(files / "model", headed)
    config = json.loads((headed / "config.json").read_text())
    names = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "BA", "1": "PI"}}
    (headed / "config.json").write_text(json.dumps(config | names))
    model = {"path": "headed", "storage_type": "local", "objective": "text-classification"}
    refused(asked, {**training(), "model": model}, "dataset.label_column", "does not know the labels", "'LNF'", "'PI'")
    weighted = training(class_weights={"BA": 2.0, "Bari": 1.0})
    refused(asked, weighted, "model_train.class_weights", "There are no labels 'Bari'", "'BA'")


def test_documents_of_an_index(asked, files):
    index = {
        "model": {"path": "model", "storage_type": "local", "objective": "no-objective"},
        "dataset": {"path": "good.csv", "storage_type": "local", "loader_kwargs": {"page_content_column": "abstract"}},
        "vector_store_save": {"path": "store", "format": "vector_store", "storage_type": "local"},
    }
    refused(asked, index, "dataset.loader_kwargs.page_content_column", "'abstract'", "Columns found: 'text', 'label'")
    (files / "none.jsonl").write_text('{"text": null, "a": 1}\n{"text": " ", "a": 2}\n')
    index["dataset"] = {"path": "none.jsonl", "storage_type": "local"}
    refused(asked, index, "dataset.loader_kwargs.page_content_column", "no text in any row")


def test_the_generic_api_refuses_it_too(asked, files):
    (files / "generic.csv").write_text(lines(("text", "lable")))
    body = {"meta": {"name": "generic"}, "spec": {"recipe": "finetune", **training("generic.csv")}}
    answer = asked.request("POST", "/api/v1/projects/default/tasks", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "spec.dataset.loader_kwargs.label_column"


def test_a_link_out_of_the_roots_tells_nothing(asked, files, tmp_path):
    """Neither names nor values of what lies elsewhere come out in an error."""
    (tmp_path / "secret.csv").write_text("hidden,word\na,b\n")
    folder = files / "linked"
    folder.mkdir()
    (folder / "train.csv").symlink_to(tmp_path / "secret.csv")
    answer = asked.request("POST", "/api/v1/tasks", json=training("linked"), headers={"Prefer": "wait=30"})
    assert "hidden" not in answer.text
    if answer.status_code == 201:
        assert answer.json()["task_status"] == "failed"


def test_a_pipe_is_no_data_set(asked, files):
    """Opening one would wait for a writer for ever."""
    os.mkfifo(files / "pipe.csv")
    refused(asked, training("pipe.csv"), "dataset.path", "neither a file nor a folder")
    (files / "piped").mkdir()
    os.mkfifo(files / "piped" / "train.csv")
    assert asked.refused(training("piped"))["errors"][0]["field"] == "dataset.path"


def test_a_large_file_is_looked_into_and_the_answer_comes_soon(asked, files):
    """Ragged in its first lines: refused; in its last: found by the task, with the same words."""
    row = "Istituto Nazionale di Fisica Nucleare, Sezione di Bari,BA\nCERN,none\n".replace("Nucleare, ", "Nucleare ")
    many = row * 400_000
    (files / "early.csv").write_text("text,label\nonly\n" + many)
    begin = time.monotonic()
    refused(asked, training("early.csv"), "dataset.path", "early.csv, line 2: 1 cells")
    assert time.monotonic() - begin < 2
    (files / "late.csv").write_text("text,label\n" + many + "only\n")
    begin = time.monotonic()
    answer = asked.request("POST", "/api/v1/tasks", json=training("late.csv"))
    assert time.monotonic() - begin < 2
    assert answer.status_code == 201, answer.text
    uid = answer.json()["task_id"]
    document = asked.request("GET", f"/api/v1/tasks/{uid}", headers={"Prefer": "wait=60"}).json()
    assert document["error"]["field"] == "dataset.path"
    assert "late.csv, line 800002: 1 cells" in document["error"]["message"]


def test_a_test_split_that_is_not_used_is_said(asked, files):
    folder = files / "own"
    folder.mkdir()
    (folder / "train.csv").write_text(lines())
    (folder / "test.csv").write_text(lines(rows=ROWS[:3]))
    body = training("own")
    answer = asked.ended(body)
    assert answer["task_status"] == "succeeded", answer
    assert answer["dataset"]["samples_test"] == 4
    warning = next(text for text in answer["warnings"] if "'test'" in text)
    assert "train_test_split" in warning
    del body["dataset"]["train_test_split"]
    answer = asked.ended(body)
    assert answer["dataset"]["samples_test"] == 3
    assert not any("'test'" in text for text in answer["warnings"])


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
