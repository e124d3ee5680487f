"""`mlaas serve` of addresses: a bucket, archives of a web server, and a repository of a hub, all answering."""

import io
import json
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.modelserver.clients import models
from tests.integration.modelserver.clients.serve import serve
from tests.servers import files as file_server
from tests.servers import hub as hub_server
from tests.servers.files import Files
from tests.servers.s3 import S3

ROWS = [[float(column) for column in range(16)]]
BODY = {
    "inputs": [{"name": name, "datatype": "INT32", "shape": [1, 16], "data": ROWS[0]} for name in ("INPUT0", "INPUT1")]
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    models._simple(folder / "simple")
    return folder / "simple" / "model.onnx"


@pytest.fixture
def files(model: Path) -> Iterator[Files]:
    with file_server.running() as server:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as bundle:
            bundle.add(model, "folder/model.onnx")
        server.content["/packed.tar.gz"] = packed.getvalue()
        for name, inside in (("zipped", "model.onnx"), ("escape", "../../../model.onnx")):
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr(inside, model.read_bytes())
            server.content[f"/{name}.zip"] = packed.getvalue()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model.onnx", "w") as file:
            for _ in range(80):
                file.write(bytes(1 << 20))
        server.content["/bomb.zip"] = packed.getvalue()
        server.content["/graph.onnx"] = model.read_bytes()
        yield server


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_all_of_them_answer(s3: S3, files: Files, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    client: Any = s3.client()
    for version in ("1", "2"):
        client.put_object(Bucket=s3.bucket, Key=f"models/sums/{version}/model.onnx", Body=model.read_bytes())
    repository = tmp_path / "hub" / "models" / "org" / "graphs"
    repository.mkdir(parents=True)
    (repository / "model.onnx").write_bytes(model.read_bytes())
    monkeypatch.setenv("MLAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    good = [f"s3://{s3.bucket}/models/sums", f"{files.url}/packed.tar.gz", f"{files.url}/zipped.zip"]
    good += [f"{files.url}/graph.onnx", "hf://org/graphs"]
    bad = [f"{files.url}/escape.zip", f"{files.url}/bomb.zip"]
    with hub_server.running(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        with serve(*good, *bad) as server:
            sums = [2 * number for number in range(16)]
            for name in ("sums", "sums/versions/1", "packed", "zipped", "graph", "graphs"):
                status, answer = ask(f"{server.url}/v2/models/{name}/infer", BODY)
                assert (status, answer["outputs"][0]["data"]) == (200, sums), (name, answer)
            for name, words in (("escape", "which leads out of it"), ("bomb", "which no model does")):
                status, answer = ask(f"{server.url}/v2/models/{name}/infer", BODY)
                assert status == 503, answer
                assert words in answer["error"], answer
    assert not list(tmp_path.parent.rglob("escape/model.onnx"))


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("s3://{bucket}/nothing", 1, "There is nothing at s3://"),
        ("{files}/nothing.onnx", 3, "There is nothing at http://"),
        ("{files}/private/x.onnx", 4, "does not hand out"),
        ("gs://bucket/model", 1, "Nothing can be fetched from gs://"),
    ],
)
def test_what_cannot_be_fetched_ends_it_with_a_sentence(
    s3: S3, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: int, words: str
) -> None:
    monkeypatch.setenv("MLAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    command = [sys.executable, "-m", "mlaas", "serve", "--port", "0", "--grpc-port", "0"]
    done = subprocess.run(
        [*command, source.format(bucket=s3.bucket, files=files.url)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
