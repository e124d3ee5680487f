"""LangChain's own folders are read, without running what a pickle could run."""

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
import pytest

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.embed import langchain
from mlaas.runtimes.embed.store import VectorStore

TEXTS = ["black holes", "quark flavour", "neutrino mass"]
METADATA: list[dict[str, Any]] = [
    {"project": "CSN4/Teongrav", "year": 2019, "tags": ["gr", None, {"x": 1.5}]},
    {},
    {"ok": True},
]


def vector(text: str) -> list[float]:
    """Deterministic, different for each of the texts."""
    return [float(len(text)), float(ord(text[0])), float(ord(text[-1]))]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder written by the real LangChain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package announces its own end
        from langchain_community.vectorstores import FAISS
        from langchain_core.embeddings import Embeddings

        class Embedder(Embeddings):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                return [vector(text) for text in texts]

            def embed_query(self, text: str) -> list[float]:
                return vector(text)

        FAISS.from_texts(TEXTS, Embedder(), metadatas=METADATA).save_local(str(tmp_path / "store"))
    return tmp_path / "store"


def test_a_folder_of_langchain_answers_as_langchain_does(written: Path) -> None:
    store = VectorStore(written)
    assert store.summary() == {"vectors": 3, "dimension": 3, "kind": "flat", "metric": "l2"}
    query = np.array([vector("quark flavor")], np.float32)
    (hits,) = store.search(query, 2)
    assert len(hits) == 2
    assert hits[0].content == "quark flavour"
    assert hits[0].score == pytest.approx(1.0)  # one letter less: the squared distance, as LangChain shows it
    everything = store.search(query, 100)[0]
    assert {hit.content: hit.metadata for hit in everything} == dict(zip(TEXTS, METADATA, strict=True))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle(written: Path, protocol: int) -> None:
    path = written / "index.pkl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps(value, protocol))
    contents, metadata = langchain.read(path, 3)
    assert contents == TEXTS
    assert metadata == METADATA


def old(module: str, store_module: str, state: dict[str, Any]) -> bytes:
    """A pickle as older releases wrote it: other modules, the state of pydantic 1."""
    names = {"Document": module, "InMemoryDocstore": store_module}
    made = {name: type(name, (), {"__module__": "tests"}) for name in names}
    document, store = made["Document"](), made["InMemoryDocstore"]()
    document.__dict__.update(state)
    store.__dict__["_dict"] = {"id-0": document}

    class Writer(pickle._Pickler):  # the Python one: it can be told other module names
        def save_global(self, obj: Any, name: str | None = None) -> None:
            self.save(names[obj.__name__])
            self.save(obj.__name__)
            self.write(pickle.STACK_GLOBAL)

        dispatch: ClassVar[dict[Any, Any]] = {**pickle._Pickler.dispatch, type: save_global}

    out = io.BytesIO()
    Writer(out, 4).dump((store, {0: "id-0"}))
    return out.getvalue()


@pytest.mark.parametrize(
    ("module", "store_module"),
    [
        ("langchain.schema", "langchain.docstore.in_memory"),
        ("langchain.schema.document", "langchain.docstore.in_memory"),
        ("langchain.docstore.document", "langchain.docstore.in_memory"),
        ("langchain_core.documents.base", "langchain_community.docstore.in_memory"),
    ],
)
def test_documents_of_older_releases(tmp_path: Path, module: str, store_module: str) -> None:
    fields = {"page_content": "text", "metadata": {"source": "a.pdf"}}
    pydantic_1 = {"__dict__": fields, "__fields_set__": {"page_content"}, "__private_attribute_values__": {}}
    for state in (fields, pydantic_1):
        path = tmp_path / "index.pkl"
        path.write_bytes(old(module, store_module, state))
        assert langchain.read(path, 1) == (["text"], [{"source": "a.pdf"}])


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_hostile_pickle_is_refused_and_runs_nothing(written: Path, tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "was-here"
    (written / "index.pkl").write_bytes(pickle.dumps((Hostile(marker), {}), protocol))
    with pytest.raises(Invalid, match=r"imports (posix|os)\.system, which is no document-store class") as caught:
        VectorStore(written)
    assert caught.value.field == "dataset.path"
    assert not marker.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no document store"),
        (b"no pickle at all", "holds no document store"),
        (pickle.dumps(({}, {})), "its first part is no document store"),
        (pickle.dumps([1, 2]), "no document store"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "imports builtins.eval"),
        (b"\x80\x04\x8c\x08builtins\x8c\x03set\x93)\x81.", "makes an object other than a document"),
        (b"\x80\x04(i__main__\nFoo\n.", "uses the operation INST"),
        (b"\x80\x02P\x31\n.", "uses the operation PERSID"),
        (b"\x80\x04\x8c\x28langchain_community.docstore.in_memory\x00.", "holds no document store"),
        (b"\x80\x04N" + b"\x85" * 100_000 + b".", "holds no document store"),
    ],
)
def test_pickles_that_are_no_document_store(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "index.pkl"
    path.write_bytes(data)
    with pytest.raises(Invalid, match=message):
        langchain.read(path, 1)


def test_metadata_that_unfolds_without_end_is_refused(written: Path) -> None:
    """A list of lists that share their parts: small as a pickle, huge as JSON."""
    nested: list[Any] = ["x"] * 10
    for _ in range(12):
        nested = [nested] * 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        docstore, positions = pickle.loads((written / "index.pkl").read_bytes())
    docstore.search(positions[0]).metadata["bomb"] = nested
    (written / "index.pkl").write_bytes(pickle.dumps((docstore, positions)))
    with pytest.raises(Invalid, match="metadata is too large"):
        VectorStore(written)


def test_counts_that_differ_are_refused(written: Path) -> None:
    index = faiss.read_index(str(written / "index.faiss"))
    index.add(np.zeros((1, 3), np.float32))
    faiss.write_index(index, str(written / "index.faiss"))
    with pytest.raises(Invalid, match="does not list 4 documents"):
        VectorStore(written)
