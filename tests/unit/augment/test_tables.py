"""Enlarging files."""

import csv
import json
from pathlib import Path

import pytest

from mlaas.kernel.errors import Error, Exists, Invalid, NotFound
from mlaas.runtimes.augment import augment_file
from mlaas.runtimes.augment.__main__ import main
from mlaas.runtimes.augment.tables import read_rows

CITIES = ["Pisa", "Bari", "Lecce", "Roma", "Torino", "Padova", "Genova", "Napoli", "Pavia", "Trieste"]
ROWS = [
    {"id": str(i), "text": f'INFN, Sez "{city}", Via {i}, {city}, Italy', "label": city}
    for i, city in enumerate(CITIES * 4)
]


def write(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        if path.suffix == ".jsonl":
            stream.writelines(json.dumps(row) + "\n" for row in ROWS)
        else:
            writer = csv.DictWriter(stream, ["id", "text", "label"], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    return path


@pytest.mark.parametrize(("source", "target"), [("a.csv", "b.csv"), ("a.tsv", "b.jsonl"), ("a.jsonl", "b.tsv")])
def test_copies_keep_the_other_columns(tmp_path: Path, source: str, target: str) -> None:
    done = augment_file(write(tmp_path / source), tmp_path / target, factor=5, seed=1)
    rows = list(read_rows(done.target))
    assert rows[: len(ROWS)] == ROWS
    assert len(rows) == done.rows == 5 * len(ROWS)
    assert done.copies == 4 * len(ROWS)
    labels = {row["id"]: row["label"] for row in ROWS}
    assert all(labels[row["id"]] == row["label"] for row in rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source, target])


def test_test_rows_stay_out_of_the_target(tmp_path: Path) -> None:
    done = augment_file(write(tmp_path / "a.csv"), tmp_path / "b.csv", size=2000, seed=1, test_split=0.25)
    assert done.test == tmp_path / "b.test.csv"
    train, test = list(read_rows(done.target)), list(read_rows(done.test))
    assert len(test) == done.test_rows == len(ROWS) // 4
    assert sorted(row["label"] for row in test) == sorted(CITIES)  # stratified
    assert all(row in ROWS for row in test)
    assert {row["id"] for row in train}.isdisjoint(row["id"] for row in test)
    assert {row["text"] for row in train}.isdisjoint(row["text"] for row in test)
    assert len(train) == 2000


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(write(tmp_path / "a.csv")), str(tmp_path / "b.csv")
    assert main([source, target, "--factor", "3", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("120 rows in ")
    assert main([source, target, "--factor", "3"]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"text,label\nBari, Italy,BA\n", Invalid, "Line 2 of .* has 3 fields, the header 2"),
        (b"string,label\nBari,BA\n", Invalid, "no column 'text'; it has: string, label"),
        (b"text,kind\nBari,BA\n", Invalid, "no column 'label'"),
        (b"text,label\n", Invalid, "holds no rows"),
        (b"", Invalid, "holds no rows"),
        (b"text,label\nUniversit\xe0,BA\n", Invalid, "is not utf-8"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, content: bytes, error: type[Error], words: str) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes(content)
    with pytest.raises(error, match=words):
        augment_file(source, tmp_path / "b.csv", factor=2, test_split=0.5)
    assert not (tmp_path / "b.csv").exists()


def test_other_refusals(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv")
    with pytest.raises(NotFound):
        augment_file(tmp_path / "none.csv", tmp_path / "b.csv", factor=2)
    with pytest.raises(Invalid, match="neither CSV, TSV nor JSON lines"):
        augment_file(source, tmp_path / "b.parquet", factor=2)
    with pytest.raises(Invalid, match="test split"):
        augment_file(source, tmp_path / "b.csv", factor=2, test_split=40)
    (tmp_path / "c.jsonl").write_text('{"text": "Bari"}\n[1]\n')
    with pytest.raises(Invalid, match=r"Line 2 of .* is no JSON object"):
        augment_file(tmp_path / "c.jsonl", tmp_path / "b.csv", factor=2)
    (tmp_path / "b.csv").touch()
    with pytest.raises(Exists):
        augment_file(source, tmp_path / "b.csv", factor=2)


def test_latin_1_is_read_when_named(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes("text,label\nUniversità di Pisa,PI\n".encode("latin-1"))
    done = augment_file(source, tmp_path / "b.csv", factor=3, encoding="latin-1")
    assert next(read_rows(done.target, encoding="latin-1"))["text"] == "Università di Pisa"
