"""Resolving and fetching from a hub: a server on loopback, then its cache alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import hub as hub_server

from mlaas.kernel.blobs.resolve import Resolver
from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.taskfile import Input, TaskFile

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    for repo in ("models/org/tiny", "models/org/gated-one", "datasets/org/rows"):
        (tmp_path / "hub" / repo).mkdir(parents=True)
        (tmp_path / "hub" / repo / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "hub" / "models/org/tiny/onnx").mkdir()
    (tmp_path / "hub" / "models/org/tiny/onnx/model.onnx").write_bytes(b"not read by any recipe")
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server.running(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture
def resolver(tmp_path: Path) -> Resolver:
    (tmp_path / "root").mkdir()
    return Resolver([tmp_path / "root"], tmp_path / "data")


def take(uri: str) -> Path:
    return fetch(TaskFile("u", "n", "p", 1, "predict", {}, inputs={"model": Input(uri)}), "model")


def test_a_model_is_resolved_to_a_commit_and_fetched(hub: hub_server.Hub, resolver: Resolver) -> None:
    found = resolver.resolve("org/tiny", "hugging_face_hub", "model.path")
    commit = hub.commit("models", "org/tiny")
    assert found == (f"hf://org/tiny@{commit}", commit)
    folder = take(found.uri)
    assert (folder / "config.json").read_text() == '{"model_type": "bert"}'
    assert not (folder / "onnx").exists()
    assert resolver.resolve(f"org/tiny@{commit}", "hugging_face_hub", "model.path") == found


def test_a_data_set_is_another_repository(hub: hub_server.Hub, resolver: Resolver) -> None:
    found = resolver.resolve("org/rows", "hugging_face_hub", "dataset.path", purpose="dataset")
    assert found.uri == f"hf://datasets/org/rows@{hub.commit('datasets', 'org/rows')}"
    assert (take(found.uri) / "config.json").exists()
    with pytest.raises(Invalid, match="no dataset 'org/tiny'"):
        resolver.resolve("org/tiny", "hugging_face_hub", "dataset.path", purpose="dataset")


def test_what_is_fetched_is_there_offline(
    hub: hub_server.Hub, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = resolver.resolve("org/tiny", "hugging_face_hub", "model.path")
    folder = take(found.uri)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    assert resolver.resolve(found.uri, "hugging_face_hub", "model.path") == found
    assert take(found.uri) == folder
    with pytest.raises(Invalid, match="HF_HUB_OFFLINE"):
        resolver.resolve("org/other", "hugging_face_hub", "model.path")
    with pytest.raises(Unavailable, match="HF_HUB_OFFLINE"):
        take("hf://org/other@" + "0" * 40)
    assert len(hub.requests) == asked


@pytest.mark.parametrize(
    ("path", "words"),
    [("org/nothing", "no model 'org/nothing'"), ("org/tiny@v9", "no revision 'v9'"), ("org/gated-one", "gated")],
)
def test_what_the_hub_refuses(hub: hub_server.Hub, resolver: Resolver, path: str, words: str) -> None:
    if "gated" in path:  # the page of a gated repository is public, its files are not
        with pytest.raises(Invalid, match=words):
            take(f"hf://{path}@{hub.commit('models', path)}")
        return
    with pytest.raises(Invalid, match=words) as refused:
        resolver.resolve(path, "hugging_face_hub", "model.path")
    assert refused.value.field == "model.path"


def test_a_token_opens_a_gated_repository(
    hub: hub_server.Hub, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert (take(resolver.resolve("org/gated-one", "hugging_face_hub", "model.path").uri) / "config.json").exists()


def test_a_hub_that_does_not_answer_is_said(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(Unavailable, match=r"does not answer|could not be fetched") as refused:
        resolver.resolve("org/tiny", "hugging_face_hub", "model.path")
    assert refused.value.field == "model.path"
