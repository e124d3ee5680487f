"""Columns are found or listed; a test set is seeded, stratified and never empty."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.columns import column, has, labels, texts
from mlaas.runtimes.data.spec import DatasetSource
from mlaas.runtimes.data.split import rows, split

TABLE = pa.table({"text": ["a"], "Labels": ["x"], "question": ["q"]})


def source(**values: Any) -> DatasetSource:
    return DatasetSource(path="data", **values)


def test_names_of_columns() -> None:
    assert column(TABLE, source(), "text") == "text"
    assert column(TABLE, source(), "page_content") == "text"
    assert column(TABLE, source(text_column="question"), "text") == "question"
    assert column(TABLE, source(loader_kwargs={"label_column": "Labels"}), "label") == "Labels"
    assert has(TABLE, source(), "question")
    assert not has(TABLE, source(), "label")


@pytest.mark.parametrize(
    ("values", "role", "field", "hint"),
    [
        ({}, "label", "dataset.loader_kwargs.label_column", "Did you mean 'Labels'"),
        ({"text_column": "txt"}, "text", "dataset.text_column", "Did you mean 'text'"),
        (
            {"loader_kwargs": {"page_content_column": "zzz"}},
            "page_content",
            "dataset.loader_kwargs.page_content_column",
            "Name it",
        ),
    ],
)
def test_a_missing_column_lists_those_found(values: dict[str, Any], role: str, field: str, hint: str) -> None:
    with pytest.raises(Invalid, match="Columns found: 'text', 'Labels', 'question'") as caught:
        column(TABLE, source(**values), role)
    assert caught.value.field == field
    assert hint in (caught.value.hint or "")


def test_a_row_taken_for_the_header_is_noticed() -> None:
    table = pa.table({"INFN Sez Frascati Roma": ["x"], "LNF": ["y"]})
    with pytest.raises(Invalid) as caught:
        column(table, source(), "text")
    assert "looks like a row" in (caught.value.hint or "")


def test_values_of_labels_and_texts() -> None:
    assert labels(pa.table({"l": ["a", "b"]}), "l").to_pylist() == ["a", "b"]
    assert labels(pa.table({"l": [1, 2]}), "l").to_pylist() == [1, 2]
    assert texts(pa.table({"t": [1, 2]}), "t").to_pylist() == ["1", "2"]
    for values, message in (
        ([1.5], "a fraction"),
        ([True], "true/false"),
        (["a", "", None], "2 rows; the first is row 2"),
        ([None], "no value in any row"),
    ):
        with pytest.raises(Invalid, match=message):
            labels(pa.table({"l": values}), "l")
    for values, message in ((["a", None], "row 2"), ([[1]], "lists")):
        with pytest.raises(Invalid, match=message):
            texts(pa.table({"t": values}), "t")


def test_the_split_is_stratified_seeded_and_complete() -> None:
    classes = pa.array(["a"] * 700 + ["b"] * 250 + ["c"] * 48 + ["d"] * 2)
    train, test = rows(1000, 0.1, seed=7, labels=classes)
    assert Counter(classes.take(pa.array(test)).to_pylist()) == {"a": 70, "b": 25, "c": 5}
    assert sorted([*train, *test]) == list(range(1000))
    again, other = rows(1000, 0.1, seed=7, labels=classes)[1], rows(1000, 0.1, seed=8, labels=classes)[1]
    assert np.array_equal(test, again)
    assert not np.array_equal(test, other)


def test_the_same_rows_everywhere() -> None:
    """Written down once: another platform or version must choose the same."""
    assert rows(20, 5, seed=2)[1].tolist() == [3, 6, 7, 11, 19]
    assert rows(20, 5, seed=2, labels=pa.array([i % 2 for i in range(20)]))[1].tolist() == [0, 3, 6, 7, 8]


def test_a_class_keeps_a_row_for_training_while_it_can() -> None:
    _, test = rows(4, 2, labels=pa.array(["a", "b", "c", "c"]))
    assert 2 in test or 3 in test
    assert len(test) == 2
    train, test = split(pa.table({"n": list(range(10))}), 3, seed=1)
    assert (train.num_rows, test.num_rows) == (7, 3)
    assert train.column("n").to_pylist() == sorted(train.column("n").to_pylist())


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (4, 0.1, "leaves no test row"),
        (1, 0.1, "leaves no test row"),
        (10, 10, "leaves no row of 10 to train"),
        (10, 0.99, "leaves no row of 10 to train"),
        (10, 1.5, "neither a share"),
        (10, -1, "is none"),
    ],
)
def test_splits_that_leave_nothing_are_refused(count: int, size: float, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        rows(count, size)
    assert caught.value.field == "dataset.train_test_split"
    assert caught.value.hint
