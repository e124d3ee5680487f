"""From a data set's column to a vector store, and from a text to its nearest documents."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.integration.embed.conftest import MakeTask

from mlaas.kernel.errors import Error, Exists, Invalid, NotFound
from mlaas.runtimes import child
from mlaas.runtimes.embed import faiss_index, index, search
from mlaas.runtimes.embed.documents import plain
from mlaas.runtimes.embed.encoder import Encoder
from mlaas.runtimes.embed.searcher import Searcher
from mlaas.runtimes.embed.store import VectorStore
from mlaas.runtimes.taskfile import Interrupted

ROWS = [
    ("Shadows of black holes and the Event Horizon Telescope", "CSN4/Teongrav", 2019),
    ("Gravitational waves from merging neutron stars", "CSN4/Teongrav", 2020),
    ("Ultracold Bose gases and their density distributions", "CSN2/Fish", 2021),
    ("Silicon trackers for a future electron-positron collider", "CSN1/RD", 2022),
    ("  ", "CSN5/Empty", 2023),
]
PARAMS = {"dataset": {"loader_kwargs": {"page_content_column": "abstract"}}}


@pytest.fixture
def abstracts(tmp_path: Path) -> Path:
    path = tmp_path / "abstracts.csv"
    path.write_text("abstract,project,year\n" + "".join(f"{text},{project},{year}\n" for text, project, year in ROWS))
    return path


def ask(make_task: MakeTask, store: Path, text: list[str], k: int = 4, **options: Any) -> dict[str, Any]:
    params = {"search_input": {"input_text": text, "k": k}, "dataset": {"format": "vector_store"}}
    return search.main(make_task("search", store, params, **options))


def test_a_store_is_built_and_searched(make_task: MakeTask, abstracts: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    built = index.main(make_task("index", abstracts, PARAMS, target=store))
    summary = {"vectors": 4, "dimension": 384, "kind": "flat", "metric": "l2"}
    assert built["index"] == summary
    assert built["output"]["uri"] == store.as_uri()
    assert built["warnings"] == ["1 rows without text are left out."]
    manifest = json.loads((store / "vector_store.json").read_text())
    assert manifest["pooling"] == {"mode": "mean", "normalize": True}
    assert manifest["metadata_columns"] == ["project", "year"]
    assert not [entry for entry in store.rglob("*") if entry.suffix in (".pkl", ".pickle")]

    answer = ask(make_task, store, ["black hole images", "cold atoms in a trap"], k=10)
    assert answer["index"] == summary
    assert "warnings" not in answer
    assert json.loads(json.dumps(answer)) == answer
    holes, atoms = answer["results"]
    assert [len(holes), len(atoms)] == [4, 4]  # k above the number of documents gives them all
    assert holes[0]["content"] == ROWS[0][0]
    assert holes[0]["metadata"] == {"project": "CSN4/Teongrav", "year": 2019}
    assert atoms[0]["metadata"]["project"] == "CSN2/Fish"
    assert [hit["score"] for hit in holes] == sorted(hit["score"] for hit in holes)
    same = ask(make_task, store, [ROWS[3][0]], k=1)["results"][0]
    assert same[0]["score"] == pytest.approx(0, abs=1e-5)


def test_the_score_is_the_squared_l2_distance(
    make_task: MakeTask, abstracts: Path, tmp_path: Path, minilm: Path
) -> None:
    store = tmp_path / "store"
    index.main(make_task("index", abstracts, PARAMS, target=store))
    query, document = Encoder(minilm).encode(["atoms", ROWS[2][0]])[0]
    hits = ask(make_task, store, ["atoms"])["results"][0]
    found = next(hit for hit in hits if hit["content"] == ROWS[2][0])
    assert found["score"] == pytest.approx(float(((query - document) ** 2).sum()), abs=1e-5)


def test_the_target_is_taken(make_task: MakeTask, abstracts: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    task = make_task("index", abstracts, PARAMS, target=store)
    first = index.main(task)
    abstracts.unlink()  # the same task again: done already, nothing is read
    assert index.main(task) == first
    abstracts.write_text("abstract\nanother\n")
    with pytest.raises(Exists) as caught:
        index.main(make_task("index", abstracts, PARAMS, target=store, uid="uid-2"))
    assert caught.value.field == "vector_store_save"


def test_without_a_target_the_store_is_the_output(make_task: MakeTask, abstracts: Path) -> None:
    built = index.main(make_task("index", abstracts, PARAMS))
    assert built["output"]["uri"].startswith("blobs:")
    assert VectorStore(Path("output")).summary()["vectors"] == 4


def test_long_documents_and_queries_are_truncated_and_said(make_task: MakeTask, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "muon " * 2000}) + "\n" + json.dumps({"text": "short"}))
    store = tmp_path / "store"
    built = index.main(make_task("index", path, {}, target=store))
    assert "1 of 2 documents are longer than the model's 256 tokens" in built["warnings"][0]
    answer = ask(make_task, store, ["muon " * 2000])
    assert "1 of 1 texts are longer" in answer["warnings"][0]
    assert answer["results"][0][0]["score"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_kinds_are_said_and_find_what_exact_search_finds(
    make_task: MakeTask, abstracts: Path, tmp_path: Path, kind: str
) -> None:
    built = index.main(
        make_task(
            "index", abstracts, {**PARAMS, "vector_store_save": {"path": "x", "kind": kind}}, target=tmp_path / "s"
        )
    )
    assert built["index"]["kind"] == kind
    answer = ask(make_task, tmp_path / "s", ["black hole images"], k=4)
    assert answer["index"]["kind"] == kind
    assert answer["results"][0][0]["content"] == ROWS[0][0]


def test_approximate_kinds_reach_a_good_recall() -> None:
    assert [faiss_index.choose("auto", count) for count in (99_999, 100_000)] == ["flat", "hnsw"]
    random = np.random.default_rng(1)
    centres = random.normal(size=(200, 32)).astype(np.float32)
    vectors = centres[random.integers(0, 200, 20_000)] + 0.3 * random.normal(size=(20_000, 32)).astype(np.float32)
    queries = vectors[:200] + 0.05 * random.normal(size=(200, 32)).astype(np.float32)
    exact = faiss_index.search(faiss_index.build("flat", vectors), queries, 10)[1]
    for kind in ("hnsw", "ivf"):
        found = faiss_index.search(faiss_index.build(kind, vectors), queries, 10)[1]
        shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
        assert np.mean(shared) > 0.95


def test_an_interrupted_attempt_goes_on_where_it_stopped(
    make_task: MakeTask, tmp_path: Path, minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"document number {i} about {i % 7} muons\n" for i in range(80)))
    params = {"batch_size": 1}  # 32 documents a block
    seen: list[str] = []
    encode = Encoder.encode

    def counted(self: Encoder, texts: Any, **options: Any) -> Any:
        seen.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode", counted)
    polls = iter([False, False, True])
    monkeypatch.setattr(index, "stopping", lambda: next(polls))
    with pytest.raises(Interrupted):
        index.main(make_task("index", path, params, target=tmp_path / "store"))
    assert len([text for text in seen if text]) == 64
    seen.clear()
    monkeypatch.setattr(index, "stopping", lambda: False)
    assert index.main(make_task("index", path, params, target=tmp_path / "store"))["index"]["vectors"] == 80
    assert len([text for text in seen if text]) == 80 - 64
    store = VectorStore(tmp_path / "store")
    expected = encode(Encoder(minilm), [f"document number {i} about {i % 7} muons" for i in range(80)])[0]
    assert np.abs(store.index.reconstruct_n(0, 80) - expected).max() < 1e-5
    monkeypatch.setattr(child, "stopping", lambda: False)
    path.write_text("another\n" * 80)
    seen.clear()
    task = make_task("index", path, {**params, "dataset": {"format": "text"}}, target=tmp_path / "other", uid="uid-3")
    index.main(task)
    assert len([text for text in seen if text]) == 80  # another data set starts anew


def refused(action: Any, message: str, field: str, kind: type[Error] = Invalid) -> None:
    with pytest.raises(kind, match=message) as caught:
        action()
    assert caught.value.field == field
    assert caught.value.hint


def test_data_sets_that_cannot_be_indexed(make_task: MakeTask, abstracts: Path, tmp_path: Path) -> None:
    key = "dataset.loader_kwargs.page_content_column"
    refused(lambda: index.main(make_task("index", abstracts, {})), "Columns found: 'abstract', 'project', 'year'", key)
    wrong = {"dataset": {"loader_kwargs": {"page_content_column": "abstrakt"}}}
    refused(lambda: index.main(make_task("index", abstracts, wrong)), "no column 'abstrakt'", key)
    empty = tmp_path / "empty.csv"
    empty.write_text("text\n")
    refused(lambda: index.main(make_task("index", empty, {})), "is empty", "dataset.path")
    blank = tmp_path / "blank.csv"
    blank.write_text('text,a\n"",1\n"",2\n')
    refused(lambda: index.main(make_task("index", blank, {})), "no text in any row", key)
    lists = tmp_path / "lists.jsonl"
    lists.write_text('{"text": [1, 2]}')
    refused(lambda: index.main(make_task("index", lists, {})), "not text", key)


def test_stores_that_cannot_be_searched(make_task: MakeTask, abstracts: Path, tmp_path: Path, minilm: Path) -> None:
    store = tmp_path / "store"
    index.main(make_task("index", abstracts, PARAMS, target=store))
    refused(lambda: VectorStore(tmp_path / "missing"), "no vector store at", "dataset.path", NotFound)
    refused(lambda: VectorStore(minilm), "is no vector store. It holds 1_Pooling", "dataset.path")
    wrong = {"search_input": {"input_text": ["x"]}, "dataset": {"format": "csv"}}
    refused(lambda: search.main(make_task("search", store, wrong)), "not csv", "dataset.format")
    broken = tmp_path / "broken"
    for name, content, message in (
        ("index.faiss", b"nothing", "no FAISS index"),
        ("documents.arrow", b"nothing", "is damaged"),
        ("vector_store.json", b'{"format": "other", "version": 1}', "format other 1 is not known"),
        ("vector_store.json", b"[", "is damaged"),
    ):
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(store, broken)
        (broken / name).write_bytes(content)
        refused(lambda: VectorStore(broken), message, "dataset.path")
    encoder = Encoder(minilm)
    opened = VectorStore(store)
    opened.index = faiss_index.build("flat", np.zeros((4, 7), np.float32))
    refused(lambda: Searcher(encoder, opened), "vectors of 384 numbers, the store holds vectors of 7", "model.path")


def test_another_model_is_said(make_task: MakeTask, abstracts: Path, tmp_path: Path, minilm: Path) -> None:
    store = tmp_path / "store"
    index.main(make_task("index", abstracts, PARAMS, target=store))
    other = tmp_path / "other"
    shutil.copytree(minilm, other)
    (other / "modules.json").unlink()
    answer = ask(make_task, store, ["x"], model=other)
    assert "built with another model" in answer["warnings"][0]
    assert "'normalize': True" in answer["warnings"][1]


def test_metadata_of_every_type_comes_back_as_json(make_task: MakeTask, tmp_path: Path) -> None:
    from datetime import UTC, date, datetime, timedelta
    from decimal import Decimal

    row = {
        "text": "a document",
        "when": datetime(2024, 2, 3, tzinfo=UTC),
        "day": date(2024, 2, 3),
        "price": Decimal("1.50"),
        "raw": b"\x01\xff",
        "took": timedelta(seconds=90),
        "nested": {"a": [1, None]},
        "nothing": None,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    index.main(make_task("index", tmp_path / "a.parquet", {}, target=tmp_path / "store"))
    (hit,) = ask(make_task, tmp_path / "store", ["document"])["results"][0]
    assert hit["metadata"] == {
        "when": "2024-02-03T00:00:00+00:00",
        "day": "2024-02-03",
        "price": "1.50",
        "raw": "01ff",
        "took": 90.0,
        "nested": {"a": [1, None]},
        "nothing": None,
    }
    assert plain("x") == "x"
