"""Data sets are read whole and right, or refused with the place and what to do."""

import gzip
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlaas.kernel.errors import Invalid, NotFound
from mlaas.runtimes.data import json_rows
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.read import load
from mlaas.runtimes.data.spec import DatasetSource

ROWS = [{"text": "INFN Frascati, Roma", "label": "LNF"}, {"text": 'the "NA" code', "label": "NA"}]


def source(**values: Any) -> DatasetSource:
    return DatasetSource(path="data", **values)


def rows(path: Path, cache: Path, **values: Any) -> list[dict[str, Any]]:
    return load(path, source(**values), cache)["train"].to_pylist()


CSV = 'text,label\n"INFN Frascati, Roma",LNF\n"the ""NA"" code",NA\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.tsv", 'text\tlabel\nINFN Frascati, Roma\tLNF\n"the ""NA"" code"\tNA\n'),
        ("semicolon.csv", 'text;label\nINFN Frascati, Roma;LNF\n"the ""NA"" code";NA\n'),
        ("bom.csv", "\ufeff" + CSV),
        ("crlf.csv", CSV.replace("\n", "\r\n")),
        ("a.jsonl", "\n".join(json.dumps(row) for row in ROWS)),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("columns.json", json.dumps({"text": [r["text"] for r in ROWS], "label": [r["label"] for r in ROWS]})),
        ("nested.json", json.dumps({"version": 1, "data": ROWS})),
        ("lines.json", "\n".join(json.dumps(row) for row in ROWS)),
        ("nameless", CSV),
        ("nameless-lines", "\n".join(json.dumps(row) for row in ROWS)),
    ],
)
def test_formats_of_text_give_the_same_rows(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, newline="")
    assert rows(path, tmp_path / "cache") == ROWS


def test_compressed_and_binary_formats(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    (tmp_path / "a.jsonl.zst").write_bytes(pa.Codec("zstd").compress(json.dumps(ROWS[0]).encode(), asbytes=True))
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("a.csv.gz", "a.parquet", "a.arrow"):
        assert rows(tmp_path / name, tmp_path / "cache") == ROWS
    assert rows(tmp_path / "a.jsonl.zst", tmp_path / "cache") == ROWS[:1]


def test_text_gives_one_row_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first, with comma\n\nsecond\n")
    assert rows(tmp_path / "a.txt", tmp_path / "cache") == [{"text": "first, with comma"}, {"text": "second"}]


def test_numbers_are_numbers_only_where_every_split_agrees(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("text,year,post,share,code\na,2001,00044,0.5,1\nb,,00045,1e3,2\n")
    (folder / "test.csv").write_text("text,year,post,share,code\nc,2003,00046,2,x\n")
    tables = load(folder, source(), tmp_path / "cache")
    assert tables["train"].to_pylist() == [
        {"text": "a", "year": 2001, "post": "00044", "share": 0.5, "code": "1"},
        {"text": "b", "year": None, "post": "00045", "share": 1000.0, "code": "2"},
    ]
    assert tables["test"].to_pylist() == [{"text": "c", "year": 2003, "post": "00046", "share": 2.0, "code": "x"}]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["a.csv", "b.csv"], {"train": 2}),
        (["train.csv", "test.csv", "validation.csv"], {"train": 1, "validation": 1, "test": 1}),
        (["set-train-00000-of-00002.csv", "set-train-00001-of-00002.csv", "eval.csv"], {"train": 2, "test": 1}),
        (["train/0.csv", "dev/0.csv"], {"train": 1, "validation": 1}),
        (["abstracts.csv", "test.csv"], {"train": 1, "test": 1}),
        (["contest.csv", ".hidden.csv", "README.txt", "notes.md"], {"train": 1}),
    ],
)
def test_splits_of_a_folder_follow_its_names(tmp_path: Path, names: list[str], splits: dict[str, int]) -> None:
    folder = tmp_path / "set"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text\nrow\n")
    tables = load(folder, source(), tmp_path / "cache")
    assert {split: table.num_rows for split, table in tables.items()} == splits
    assert list(tables) == list(splits)


def test_one_split_can_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("text\na\n")
    (folder / "test.csv").write_text("text\nb\n")
    assert list(load(folder, source(split="test"), tmp_path / "cache")) == ["test"]
    with pytest.raises(Invalid, match="no split 'dev'; it has train, test") as caught:
        load(folder, source(split="dev"), tmp_path / "cache")
    assert caught.value.field == "dataset.split"


def test_a_saved_hugging_face_data_set_with_class_labels(tmp_path: Path) -> None:
    """The layout of datasets.save_to_disk: an Arrow stream per shard, state.json, dataset_dict.json."""
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["LNF", "BA"], "_type": "ClassLabel"},
        "tags": {"feature": {"names": ["O", "B-LOC"], "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    schema = pa.schema(
        [("text", pa.string()), ("label", pa.int64()), ("tags", pa.list_(pa.int64()))],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    folder = tmp_path / "saved"
    for split, values in (("train", [0, 1, -1]), ("test", [1])):
        (folder / split).mkdir(parents=True)
        table = pa.table({"text": ["x"] * len(values), "label": values, "tags": [[0, 1]] * len(values)}, schema=schema)
        with pa.ipc.new_stream(str(folder / split / "data-00000-of-00001.arrow"), schema) as writer:
            writer.write_table(table)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (folder / split / "state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    tables = load(folder, source(), tmp_path / "cache")
    assert tables["train"].column("label").to_pylist() == ["LNF", "BA", None]
    assert tables["test"].to_pylist() == [{"text": "x", "label": "BA", "tags": ["O", "B-LOC"]}]
    assert load(folder / "test", source(), tmp_path / "cache")["test"].num_rows == 1
    (folder / "test" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../secret.arrow"}]}))
    with pytest.raises(Invalid, match="which is not there"):
        load(folder, source(), tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "content", "options", "message", "field"),
    [
        ("a.csv", "", {}, "is empty", "dataset.path"),
        ("a.csv", "text,label\n", {}, "is empty", "dataset.path"),
        ("a.jsonl", "\n\n", {}, "is empty", "dataset.path"),
        ("a.json", "[]", {}, "is empty", "dataset.path"),
        ("a.csv", 'text,label\na,b\n"c\nd",e\nf,g,h\n', {}, "line 5: 3 cells where the header has 2", "dataset.path"),
        ("a.csv", "text,label\na,b\nonly\n", {}, "line 3: 1 cells where the header has 2", "dataset.path"),
        ("a.csv", "x,x\na,b\n", {}, "no header, or one that names 'x' 2 times", "dataset.path"),
        ("a.csv", "0.5,text\na,b\n", {}, r"no header: line 1 holds the number 0\.5", "dataset.path"),
        ("a.csv", "text,\na,b\n", {}, "a column without a name", "dataset.path"),
        (
            "a.csv",
            b"text,label\nok,A\nFacolt\xe0,B\n",
            {},
            "line 3: not utf-8; it looks like cp1252",
            "dataset.loader_kwargs.encoding",
        ),
        ("a.jsonl", b'{"text": "Facolt\xe0"}\n', {}, "line 1: not utf-8", "dataset.loader_kwargs.encoding"),
        (
            "a.csv",
            "text\na\n".encode("utf-16"),
            {},
            "line 1: not utf-8; it looks like utf-16",
            "dataset.loader_kwargs.encoding",
        ),
        (
            "a.csv",
            "text\na\n",
            {"loader_kwargs": {"encoding": "utf9"}},
            "no encoding 'utf9'",
            "dataset.loader_kwargs.encoding",
        ),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', {}, "line 2: not JSON", "dataset.path"),
        ("a.jsonl", '{"text": "a"}\n\n[1]\n', {}, "line 3: a list where an object", "dataset.path"),
        ("a.json", '[{"text": "a"},\n oops]', {}, "line 2: not JSON", "dataset.path"),
        ("a.json", '{"a": [1], "b": [1, 2]}', {}, "differ in length: a 1, b 2", "dataset.path"),
        (
            "a.jsonl",
            '{"label": 1}\n{"label": null}\n{"label": "x"}\n',
            {},
            "'label' mixes types: number in line 1, text in line 3",
            "dataset.path",
        ),
        ("a.parquet", "no parquet", {}, "no Parquet file", "dataset.path"),
        ("a.arrow", "no arrow", {}, "no Arrow file", "dataset.path"),
        ("a", b"\x00\x01\x02", {}, "no format that is known", "dataset.format"),
    ],
)
def test_bad_files_are_refused_with_place_and_hint(
    tmp_path: Path, name: str, content: str | bytes, options: dict[str, Any], message: str, field: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(Invalid, match=message) as caught:
        load(path, source(**options), tmp_path / "cache")
    assert caught.value.field == field
    assert caught.value.hint
    tables = tmp_path / "cache" / "tables"
    assert not tables.exists() or not list(tables.glob(".partial*"))


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no data set"):
        load(tmp_path / "missing", source(), tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "image.png").write_bytes(b"")
    with pytest.raises(Invalid, match=r"no data file: image\.png"):
        load(folder, source(), tmp_path / "cache")
    (folder / "a.csv").write_text("text\na\n")
    (folder / "b.jsonl").write_text('{"text": "b"}')
    with pytest.raises(Invalid, match="several formats: csv, jsonl"):
        load(folder, source(), tmp_path / "cache")
    assert rows(folder, tmp_path / "cache", format="jsonl") == [{"text": "b"}]


def test_another_encoding_is_read_when_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for encoding in ("cp1252", "utf-16"):
        path.write_bytes("text\nUniversità\n".encode(encoding))
        assert rows(path, tmp_path / "cache", loader_kwargs={"encoding": encoding}) == [{"text": "Università"}]


def test_types_are_those_of_the_whole_column_not_of_its_first_block(tmp_path: Path) -> None:
    """More rows than one batch: a column that is null or whole at first may be text or a fraction later."""
    path = tmp_path / "a.jsonl"
    with path.open("w") as out:
        for i in range(70_000):
            out.write(json.dumps({"n": 1 if i < 65_000 else 0.5, "late": None if i < 65_000 else "x"}) + "\n")
        out.write('{"extra": [1]}\n')
    table = load(path, source(), tmp_path / "cache")["train"]
    assert table.num_rows == 70_001
    assert table.schema.field("n").type == pa.float64()
    assert pc.sum(table.column("n")).as_py() == 65_000 + 2_500
    assert table.column("late").null_count == 65_001
    assert table.column("extra").to_pylist()[-1] == [1]
    with path.open("a") as out:
        out.write('{"late": 5}\n')
    with pytest.raises(Invalid, match="'late' mixes"):
        load(path, source(), tmp_path / "cache")


def test_a_table_follows_the_content_and_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\nfirst\n")
    table = load(path, source(), tmp_path / "cache")["train"]
    path.write_text("text\nother\n")
    assert rows(path, tmp_path / "cache") == [{"text": "other"}]
    path.unlink()
    assert table.to_pylist() == [{"text": "first"}]


def test_concurrent_readers_see_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,n\n" + "".join(f"row {i},{i}\n" for i in range(20_000)))
    seen: list[int] = []
    start = threading.Barrier(8)

    def read() -> None:
        start.wait()
        seen.append(load(path, source(), tmp_path / "cache")["train"].num_rows)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [20_000] * 8
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 1


def test_a_list_of_objects_costs_the_memory_of_a_window_however_long_it_is(tmp_path: Path) -> None:
    """The peak of a process that reads 16 times as many rows, indented or in one line, is about the same."""
    row = {"text": "Istituto Nazionale di Fisica Nucleare, Sezione di Bari " * 20, "label": "BA"}
    code = (
        "import sys; from pathlib import Path; from mlaas.runtimes.data.read import load\n"
        "from mlaas.runtimes.data import batches; from mlaas.runtimes.data.spec import DatasetSource\n"
        "batches.ROWS = 1024\n"
        "table = load(Path(sys.argv[1]), DatasetSource(path='a'), Path(sys.argv[2]))['train']\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(table.num_rows, int(peak.split()[1]) >> 10)"
    )
    peaks = {}
    for name, count, document in (
        ("small", 5_000, "[%s]"),
        ("large", 80_000, "[%s]"),
        ("data", 80_000, '{"data": [%s]}'),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(document % ",".join([json.dumps(row)] * count))
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(tmp_path / name)], capture_output=True, text=True, check=True
        )
        rows, peak = map(int, done.stdout.split())
        assert rows == count
        peaks[name] = peak
        path.unlink()
    size = 80_000 * len(json.dumps(row)) >> 20
    assert size > 80
    assert peaks["large"] - peaks["small"] < size // 4, peaks
    assert peaks["data"] - peaks["small"] < size // 4, peaks


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 18])
def test_a_json_document_is_the_same_whatever_the_window(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_ = [
        {"text": 'a "quoted" \\ é \U0001f600' * 3, "n": -12.5e3, "deep": [{"a": [True, None, 1]}]},
        {"text": "", "n": 3},
    ]
    monkeypatch.setattr(json_rows, "_CHUNK", size)
    for name, content in (
        ("list", json.dumps(rows_, indent=3)),
        ("escaped", json.dumps(rows_, ensure_ascii=True)),
        ("plain", json.dumps(rows_, ensure_ascii=False)),
        ("data", json.dumps({"data": rows_, "version": 12})),
        ("spaced", "\n\n  " + json.dumps(rows_, separators=(" ,\n", " : ")) + "\n \n"),
    ):
        path = tmp_path / name
        path.write_text(content)
        file = DataFile(path, name, "train", "json")
        assert [row for _, row in json_rows.rows(file, source())] == rows_, name
        path.write_text(content.rstrip()[:-1])
        with pytest.raises(Invalid, match="the file ends in the middle"):
            list(json_rows.rows(file, source()))
