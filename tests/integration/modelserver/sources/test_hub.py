"""Repositories of a hub: a server on loopback that speaks its routes, then its cache alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import hub as hub_server

from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver.sources.fetch import locate

pytest.importorskip("huggingface_hub")

_REPOSITORIES = {
    "org/tiny": ("config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "1_Pooling/config.json"),
    "org/graph": ("model.onnx",),
    "org/old": ("config.json", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"),
    "org/gated-one": ("config.json",),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    for repository, names in _REPOSITORIES.items():
        for name in names:
            path = tmp_path / "hub" / "models" / repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server.running(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_repository_is_fetched_once(hub: hub_server.Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = hub.commit("models", "org/tiny")
    found = locate("hf://org/tiny", tmp_path)
    assert found.name == "tiny"
    assert names(found.path) == {"config.json", "model.safetensors", "1_Pooling/config.json"}
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"Fetching hf://org/tiny@{commit}"
    assert said[-1].startswith(f"Fetched hf://org/tiny@{commit}: 49 bytes in ")
    assert locate(f"hf://org/tiny@{commit}", tmp_path) == found
    assert capsys.readouterr().err == ""


def test_the_weights_that_there_are_come(hub: hub_server.Hub, tmp_path: Path) -> None:
    assert names(locate("hf://org/graph", tmp_path).path) == {"model.onnx"}
    assert "pytorch_model.bin" in names(locate("hf://org/old", tmp_path).path)


@pytest.mark.parametrize("away", ["offline", "silent"])
def test_what_was_fetched_is_served_without_the_hub(
    hub: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    found = locate("hf://org/tiny", tmp_path)
    if away == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert locate("hf://org/tiny", tmp_path) == found


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("hf://org/nothing", Invalid, "no model 'org/nothing'"),
        ("hf://org/tiny@v9", Invalid, "no revision 'v9'"),
        ("hf://org/gated-one", Invalid, "gated"),
        ("hf://../../etc", Invalid, "no repository"),
        ("hf://", Invalid, "no repository"),
    ],
)
def test_what_the_hub_refuses(hub: hub_server.Hub, tmp_path: Path, source: str, error: type[Error], words: str) -> None:
    with pytest.raises(error, match=words) as refused:
        locate(source, tmp_path)
    assert refused.value.field == "source"


def test_a_token_opens_a_gated_repository(hub: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert names(locate("hf://org/gated-one", tmp_path).path) == {"config.json"}
