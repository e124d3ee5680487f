"""A platform with models of each format that is served, made here, and what KServe manifests are applied with."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.integration.modelserver.formats.tensorflow_environment import cache
from tests.platform import Platform

from mlaas.client import Client

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]


def make_models(files: Path) -> None:
    """Folders `sklearn`, `second` (labels shifted by 10); `unreadable`; code: `twice`, `scale`."""
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True)
    for name in ("sklearn", "second", "unreadable", "twice", "scale"):
        (files / name).mkdir(parents=True)
    skops.io.dump(LogisticRegression(max_iter=500).fit(rows, labels), files / "sklearn" / "model.skops")
    skops.io.dump(LogisticRegression(max_iter=500).fit(rows, labels + 10), files / "second" / "model.skops")
    (files / "unreadable" / "README.md").write_text("no model here")
    (files / "twice" / "model.py").write_text(
        "class Model:\n"
        "    inputs = [{'name': 'x', 'datatype': 'FP64', 'shape': [-1, 4]}]\n"
        "    outputs = [{'name': 'y', 'datatype': 'FP64', 'shape': [-1]}]\n"
        "    def predict(self, inputs):\n"
        "        print('rows:', len(inputs['x']), flush=True)\n"
        "        return {'y': 2 * inputs['x'].sum(axis=1)}\n"
    )
    (files / "scale" / "transformer.py").write_text(
        "class Transformer:\n"
        "    def preprocess(self, inputs):\n"
        "        return {name: array / 10 for name, array in inputs.items()}\n"
    )


SAMPLE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat:
        name: {format}
      protocolVersion: v2
      storageUri: file://FILES/{folder}
      resources:
        requests: {{cpu: 100m, memory: 256Mi}}
        limits: {{cpu: "1", memory: 2Gi}}
"""


def sample(name: str, format: str, folder: str) -> str:
    return SAMPLE.format(name=name, format=format, folder=folder)


def kubectl_like(platform: Platform, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """The command line, against this platform."""
    return subprocess.run(
        [sys.executable, "-m", "mlaas", "--url", platform.url, *words],
        input=text,
        capture_output=True,
        text=True,
        env={**platform.environment, "MLAAS_TOKEN": platform.token, "NO_COLOR": "1", "COLUMNS": "200"},
        timeout=60,
    )


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("kserve")
    made = Platform(folder, MLAAS_WARM="0", MLAAS_CACHE=str(cache(folder / "cache").root))
    make_models(made.files)
    with made:
        yield made


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with platform.client() as client:
        yield client


def manifest(text: str, platform: Platform) -> str:
    """The manifest with `FILES` as the folder of the models."""
    return text.replace("FILES", str(platform.files))


def applied(client: Client, text: str) -> list[dict[str, Any]]:
    """What became of each document; none is refused."""
    items: list[dict[str, Any]] = client.apply(text)["items"]
    assert not [item["error"] for item in items if "error" in item]
    return items


def refused(client: Client, text: str) -> dict[str, Any]:
    """The error of the one document."""
    (item,) = client.apply(text)["items"]
    assert "error" in item, item
    return dict(item["error"])


def shown_ready(client: Client, plural: str, name: str, seconds: float = 120) -> dict[str, Any]:
    """The manifest once its condition Ready holds for what was applied last."""
    end = time.monotonic() + seconds
    while True:
        found = client.get(plural, name)
        status = found["status"]
        conditions = {each["type"]: each for each in status["conditions"]}
        current = status["observedGeneration"] == found["metadata"]["generation"]
        if current and conditions.get("Ready", {}).get("status") == "True":
            return found
        assert time.monotonic() < end, json.dumps(status, indent=1)
        time.sleep(0.05)


def ask(platform: Platform, url: str, body: Any, **headers: str) -> Any:
    """The answer to a POST with the administrator's token; fails with what came instead of 200."""
    sent = {"authorization": f"Bearer {platform.token}"} | {
        key.replace("_", "-"): each for key, each in headers.items()
    }
    answer = httpx2.post(url, json=body, headers=sent, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def v1(platform: Platform, shown: dict[str, Any], body: Any = None) -> Any:
    name = shown["metadata"]["name"]
    return ask(platform, f"{shown['status']['url']}/v1/models/{name}:predict", body or {"instances": ROWS})


def v2(platform: Platform, shown: dict[str, Any], rows: list[Any], datatype: str) -> Any:
    name = shown["metadata"]["name"]
    shape = [len(rows), len(rows[0])] if datatype != "BYTES" else [len(rows)]
    tensor = {"name": "input-0", "shape": shape, "datatype": datatype, "data": rows}
    return ask(platform, f"{shown['status']['url']}/v2/models/{name}/infer", {"inputs": [tensor]})


def as_yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False)
