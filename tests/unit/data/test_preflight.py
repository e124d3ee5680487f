"""What is refused before a task is accepted is what its recipe would refuse, in the same words; nothing else is."""

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlaas.kernel.errors import Error, Invalid
from mlaas.runtimes.data import preflight
from mlaas.runtimes.data.spec import DatasetSource

ROWS = [("INFN Bari", "BA"), ("CERN Geneva", "none")] * 8
Said = tuple[str, str | None, str | None] | None


def source(**values: Any) -> DatasetSource:
    return DatasetSource(path="data", **values)


def lines(header: tuple[str, ...] = ("text", "label"), rows: Any = ROWS, delimiter: str = ",") -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [header, *rows])


def before(path: Path, purpose: str = "text-classification", **values: Any) -> Said:
    """What is said when the task is posted: message, field, hint."""
    try:
        preflight.check(path, source(**values), preflight.Purpose(purpose), lambda path: True)
    except Error as error:
        return error.message, error.field, error.hint
    return None


def recipe(path: Path, purpose: str = "text-classification", **values: Any) -> Said:
    """What the recipe says when it has read the rows."""
    from mlaas.runtimes.data import holdout, split
    from mlaas.runtimes.data.read import load
    from mlaas.runtimes.transformers.objectives import named

    wanted = source(**values)
    try:
        with tempfile.TemporaryDirectory() as cache:
            tables = load(path, wanted, Path(cache))
            objective = named(purpose)()
            columns = {name: objective.columns(table, wanted) for name, table in tables.items()}
            objective.names(columns.values())
            train, held_out = holdout.parts(list(tables))
            if held_out is None or wanted.train_test_split is not None:
                split.rows(tables[train].num_rows, wanted.train_test_split or holdout.DEFAULT)
    except Error as error:
        return error.message, error.field, error.hint
    return None


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


OBJECTS = [{"text": text, "label": label} for text, label in ROWS]
BAD = [
    ("a.csv", "", {}, "is empty"),
    ("a.csv", "text,label\n", {}, "is empty"),
    ("a.csv", lines(("title", "label")), {}, "Columns found: 'title', 'label'"),
    ("a.csv", lines(("text", "lable")), {}, "no column 'label'"),
    ("a.csv", lines(("Text", "Label")), {}, "no column 'text'"),
    ("a.csv", lines(), {"label_column": "klass"}, "no column 'klass'"),
    ("a.csv", lines(rows=[("INFN Bari", "BA")] * 16), {}, "All rows have one label, 'BA'"),
    ("a.csv", lines(rows=[("INFN Bari", "0.5"), ("CERN", "1.5")] * 8), {}, "text or whole numbers"),
    ("a.csv", lines(rows=[("INFN Bari", 1), ("CERN", "1e3")] * 8), {}, "numbers with a fraction"),
    ("a.csv", lines(rows=[("INFN Bari", 1), ("CERN", "")] * 8), {}, "no label in 8 rows; the first is row 2"),
    ("a.csv", lines(rows=[("INFN Bari", ""), ("CERN", "CH")] * 8), {}, "no label in 8 rows; the first is row 1"),
    ("a.csv", lines(rows=[("0.5", "A"), ("1.5", "B")] * 8), {}, "'text' holds numbers with a fraction, not text"),
    ("a.csv", lines(rows=[(1, "A"), ("", "B")] * 8), {}, "no text in 8 rows; the first is row 2"),
    ("a.csv", lines(rows=[*ROWS, ("Frascati", "LNF", "extra"), *ROWS]), {}, "line 18: 3 cells"),
    ("a.csv", lines(rows=[*ROWS, ("Frascati",), *ROWS]), {}, "line 18: 1 cells"),
    ("a.tsv", lines(rows=[*ROWS, ("Frascati",), *ROWS], delimiter="\t"), {}, "line 18: 1 cells"),
    ("a.csv", lines(rows=[("Università", "BO"), *ROWS]).encode("cp1252"), {}, "line 2: not utf-8; it looks like cp1252"),
    ("a.csv", lines(rows=[*ROWS, ("Università", "BO")]).encode("latin-1"), {}, "line 18"),
    ("a.csv", lines().encode("utf-16"), {}, "looks like utf-16"),
    ("a.csv", lines(), {"loader_kwargs": {"encoding": "utf9"}}, "no encoding 'utf9'"),
    ("a.csv", lines(), {"loader_kwargs": {"encoding": "base64"}}, "no encoding 'base64'"),
    ("a.csv", "text,text\na,b\n", {}, "2 times"),
    ("a.csv", "0.5,1\n" + lines(), {}, "no header"),
    ("a.csv", lines(), {"train_test_split": 16.0}, "leaves no row of 16 to train on"),
    ("a.csv", lines(), {"train_test_split": 0.001}, "of 16 rows leaves no test row"),
    ("a.csv", lines(rows=ROWS[:2]), {}, "of 2 rows leaves no test row"),
    ("a.csv", lines(), {"split": "dev"}, "no split 'dev'; it has train"),
    ("a.jsonl", "\n\n", {}, "is empty"),
    ("a.jsonl", jsonl([{"text": "a", "label": ["x"]}] * 8), {}, "holds lists; labels are text or whole numbers"),
    ("a.jsonl", jsonl([{"text": "a", "label": True}] * 8), {}, "holds true/false"),
    ("a.jsonl", jsonl([{"text": "a", "label": 0.5}] * 8), {}, "numbers with a fraction"),
    ("a.jsonl", jsonl([{"text": {"a": 1}, "label": "x"}] * 8), {}, "holds objects, not text"),
    ("a.jsonl", jsonl([{"text": "a", "label": None}] * 8), {}, "holds no value in any row"),
    ("a.jsonl", jsonl([{"text": "a"}, *OBJECTS]), {}, "no label in 1 rows; the first is row 1"),
    ("a.jsonl", jsonl([*OBJECTS, {"label": "x"}]), {}, "no text in 1 rows; the first is row 17"),
    ("a.jsonl", jsonl([*OBJECTS, {"text": "a", "label": 1}]), {}, "mixes types: text in line 1, number in line 17"),
    ("a.jsonl", jsonl(OBJECTS) + '{"text": \n', {}, "line 17: not JSON"),
    ("a.jsonl", jsonl([*OBJECTS, [1]]), {}, "line 17: a list where an object is expected"),
    ("a.json", "[]", {}, "is empty"),
    ("a.json", json.dumps(OBJECTS[::2]), {}, "All rows have one label, 'BA'"),
    ("a.json", json.dumps({"data": OBJECTS[::2]}), {}, "All rows have one label, 'BA'"),
    ("a.json", json.dumps({"text": ["a", "b"], "label": ["x"]}), {}, "differ in length"),
    ("a.json", json.dumps(OBJECTS, indent=0)[:-20], {}, "line 63: not JSON: the file ends in the middle"),
    ("a.json", "this is text\n", {}, "line 1: not JSON"),
    ("a.json", "5", {}, "holds a number, no rows"),
    ("a.json", json.dumps(OBJECTS) + "x", {}, "something follows"),
    ("a.json", '[{"text": NaN}]', {}, "NaN is no number of JSON"),
    ("a.json", "[" * 100_000, {}, "nested too deep"),
    ("a.txt", "one\ntwo\n", {}, "no column 'label'. Columns found: 'text'"),
    ("a.csv.gz", gzip.compress(lines(rows=[*ROWS, ("x",)]).encode(), mtime=0), {}, "line 18: 1 cells"),
    ("a.jsonl.gz", gzip.compress(jsonl(OBJECTS).encode(), mtime=0)[:-9], {}, "cannot be decompressed"),
    ("what", b"\x00\x01\x02", {}, "no format that is known"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "options", "words"), BAD)
def test_bad_data_is_refused_as_its_recipe_would(
    tmp_path: Path, name: str, content: str | bytes, options: dict[str, Any], words: str
) -> None:
    path = write(tmp_path, name, content)
    said = before(path, **options)
    assert said is not None
    assert words in said[0]
    assert said[2]
    assert said == recipe(path, **options)


@pytest.mark.parametrize(
    ("purpose", "rows", "words"),
    [
        ("next-sentence-prediction", [{"text": "a", "text_pair": "b", "label": "maybe"}] * 16, "says neither"),
        ("next-sentence-prediction", [{"text": "a"}] * 16, "no column 'text_pair'"),
        ("question-answering", [{"question": "a", "context": 0.5, "answers": "b"}] * 16, "'context' holds numbers"),
        ("question-answering", [{"question": "a", "context": "b"}] * 16, "no column 'answers'"),
        ("token-classification", [{"tokens": ["a"], "ner": ["O"]}] * 16, "no column 'tags'"),
        ("masked-lm", [{"abstract": "a"}] * 16, "Columns found: 'abstract'"),
        ("no-objective", [{"text": "a", "label": ["b"]}] * 16, "labels are text or whole numbers"),
    ],
)
def test_each_objective_has_its_columns(tmp_path: Path, purpose: str, rows: list[Any], words: str) -> None:
    path = write(tmp_path, "a.jsonl", jsonl(rows))
    said = before(path, purpose)
    assert said is not None
    assert words in said[0]
    assert said == recipe(path, purpose)


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", lines(), {}),
        ("a.csv", "\ufeff" + lines(), {}),
        ("a.csv", "\n\n" + lines(), {}),
        ("a.csv", lines().replace("\n", "\r\n"), {}),
        ("a.csv", lines(delimiter=";"), {}),
        ("a.csv", lines(rows=[('"a, ""b""\nc"', "x"), *ROWS]), {}),
        ("a.csv", lines(rows=[("x" * 200_000, "x"), *ROWS]), {}),
        ("a.csv", lines(rows=[("", "A"), ("b", "B")] * 8), {}),
        ("a.csv", lines(rows=[("12", "1"), ("13", "2")] * 8), {}),
        ("a.csv", lines().encode("utf-16"), {"loader_kwargs": {"encoding": "utf-16"}}),
        ("a.jsonl", jsonl(OBJECTS), {}),
        ("a.jsonl", jsonl([{**row, "n": i if i % 2 else 0.5} for i, row in enumerate(OBJECTS)]), {}),
        ("a.json", jsonl(OBJECTS), {}),
        ("a.json", json.dumps(OBJECTS, indent=2), {}),
        ("a.json", json.dumps({"version": 1, "data": OBJECTS}), {}),
        ("a.json", json.dumps({"data": {"text": [r[0] for r in ROWS], "label": [r[1] for r in ROWS]}}), {}),
        ("a.csv.gz", gzip.compress(lines().encode(), mtime=0), {}),
        ("a.csv", lines(), {"train_test_split": 5.0}),
    ],
)
def test_good_data_is_accepted(tmp_path: Path, name: str, content: str | bytes, options: dict[str, Any]) -> None:
    path = write(tmp_path, name, content)
    assert before(path, **options) is None
    assert recipe(path, **options) is None


def test_splits_of_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path, "set/train.csv", lines()).parent
    write(tmp_path, "set/test.csv", lines(rows=[("INFN Pisa", "PI")]))
    assert before(folder) is None
    assert before(folder, split="test") == recipe(folder, split="test") != None  # noqa: E711
    write(tmp_path, "set/test.csv", lines(("text",), [("a",)]))
    said = before(folder)
    assert said == recipe(folder)
    assert said is not None
    assert "no column 'label'" in said[0]
    # A column is one of numbers only where all splits agree.
    write(tmp_path, "set/test.csv", lines(rows=[("a", "0.5"), ("b", "1.5")]))
    assert before(folder) is None
    assert recipe(folder) is None
    write(tmp_path, "set/more.parquet", b"PAR1")
    assert before(folder) == recipe(folder)


def test_an_index_needs_a_text_in_some_row(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", jsonl([{"text": None}, {"text": " "}, {"title": "x"}]))
    said = before(path, preflight.INDEX)
    assert said is not None
    assert "no text in any row" in said[0]
    path = write(tmp_path, "b.jsonl", jsonl([{"text": None}, {"text": "found"}]))
    assert before(path, preflight.INDEX) is None
    said = before(path, preflight.INDEX, loader_kwargs={"page_content_column": "abstract"})
    assert said is not None
    assert said[1] == "dataset.loader_kwargs.page_content_column"


def test_what_only_a_framework_reads_is_left_to_the_recipe(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow", "a.csv.zst"):
        assert before(write(tmp_path, name, b"nothing of the kind")) is None
    path = write(tmp_path, "a.csv", "nothing")
    preflight.check(
        path, source(), preflight.Purpose("text-classification"), lambda path: False
    )  # a link to elsewhere is not followed
    code = "import sys, mlaas.runtimes.data.preflight; assert not {'pyarrow', 'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_a_large_file_only_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "WHOLE", 200_000)
    monkeypatch.setattr(preflight, "HEAD", 100_000)
    many = ROWS[:1] * 30_000
    assert before(write(tmp_path, "one.csv", lines(rows=many))) is None  # the other labels may come later
    said = before(write(tmp_path, "early.csv", lines(rows=[("x",), *many])))
    assert said is not None
    assert "line 2: 1 cells" in said[0]
    assert before(write(tmp_path, "late.csv", lines(rows=[*many, ("x",)]))) is None
    said = before(write(tmp_path, "names.csv", lines(("text", "class"), many)))
    assert said is not None
    assert "Columns found: 'text', 'class'" in said[0]


def test_what_was_good_is_not_read_again_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.csv", lines())
    assert before(path) is None
    with monkeypatch.context() as patch:
        patch.setattr(preflight._Seen, "read", lambda *_: pytest.fail("was read again"))
        assert before(path) is None
    path.write_text(lines(rows=[("INFN Bari", "BA")] * 17))
    assert before(path) is not None


CELL = st.text(st.sampled_from('ab1.,"\n\r;\t é\x00'), max_size=6)
ROW = st.lists(CELL, min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, max_size=6), st.booleans())
def test_nothing_is_refused_that_the_recipe_reads(rows: list[list[str]], header: bool) -> None:
    """Any text at all under the name of a CSV file."""
    with tempfile.TemporaryDirectory() as folder:
        text = ("text,label\n" if header else "") + "\n".join(",".join(row) for row in rows)
        path = write(Path(folder), "a.csv", text)
        said = before(path, train_test_split=1.0)
        if said is not None:
            told = recipe(path, train_test_split=1.0)
            assert told is not None, said
            assert told[1] == said[1], (said, told)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["text", "label", "n"]),
            st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | st.text("ab1 ", max_size=2)
            | st.lists(st.integers(0, 2), max_size=2),
        ),
        max_size=5,
    ),
    st.sampled_from(["a.jsonl", "a.json"]),
)  # fmt: skip
def test_no_objects_are_refused_that_the_recipe_reads(rows: list[Any], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        content = jsonl(rows) if name == "a.jsonl" else json.dumps(rows)
        path = write(Path(folder), name, content)
        said = before(path, train_test_split=1.0)
        if said is not None:
            assert recipe(path, train_test_split=1.0) is not None, said


def test_invalid_is_what_is_raised(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        preflight.check(write(tmp_path, "a.csv", ""), source(), preflight.Purpose("masked-lm"), lambda path: True)


def test_labels_that_the_head_or_the_weights_do_not_go_with(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", lines())
    for purpose, field in (
        (preflight.Purpose("text-classification", head=("BA", "LNF")), "dataset.label_column"),
        (preflight.Purpose("text-classification", weighted=("BA", "PI")), "model_train.class_weights"),
    ):
        with pytest.raises(Invalid) as caught:
            preflight.check(path, source(), purpose, lambda path: True)
        assert caught.value.field == field
    fits = preflight.Purpose("text-classification", head=("BA", "LNF", "none"), weighted=("LNF",))
    preflight.check(path, source(), fits, lambda path: True)
