"""The tabular examples from one `mlaas apply` to answers: the file of each trains, serves, and is asked with its V1 body."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx2
import pytest
import yaml
from examples.anomaly import generate as anomaly
from examples.higgs import generate as higgs
from examples.iris import generate as iris
from examples.tthbb import generate as tthbb
from tests.platform import REPOSITORY, Platform

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("served"), MLAAS_WARM="0") as running:
        yield running


def served(platform: Platform, name: str, generator: ModuleType, file: str) -> dict[str, dict[str, Any]]:
    """Apply the example's file as it stands, in the folder of its data; service -> status, once all of them are ready."""
    generator.write(platform.files / file)
    manifest = EXAMPLES / name / f"{name}.yaml"
    said = subprocess.run(
        [sys.executable, "-m", "mlaas", "--url", platform.url, "apply", "-f", str(manifest)],
        capture_output=True,
        text=True,
        env={**platform.environment, "MLAAS_TOKEN": platform.token},
        cwd=platform.files,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr
    names = [each["meta"]["name"] for each in yaml.safe_load_all(manifest.read_text()) if each["kind"] == "service"]
    with platform.client() as client:
        return {name: ready(client, name) for name in names}


def ready(client: Any, name: str, seconds: float = 200) -> dict[str, Any]:
    """The service's status once it is ready: it waits for its task, and never fails meanwhile."""
    end = time.monotonic() + seconds
    while (found := client.get("services", name)["status"])["phase"] != "Ready":
        assert time.monotonic() < end, json.dumps(found, indent=1)
        assert found["phase"] != "Failed", json.dumps(found, indent=1)
        time.sleep(0.1)
    return dict(found)


def asked(platform: Platform, status: dict[str, Any], body: Any) -> Any:
    """The answer to a body as plain `curl -d` sends it."""
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "authorization": f"Bearer {platform.token}",
    }
    answer = httpx2.post(status["address"]["v1"], content=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def body(name: str) -> bytes:
    return (EXAMPLES / name / "input.json").read_bytes()


def test_iris_answers_in_v1_and_v2(platform: Platform) -> None:
    status = served(platform, "iris", iris, "iris.csv")["iris"]
    assert status["units"][0]["compiled"] is True
    assert asked(platform, status, body("iris")) == {"predictions": [1, 1]}
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": json.loads(body("iris"))["instances"]}
    with platform.client() as client:
        assert client.infer("iris", [tensor])["outputs"][0]["data"] == [1, 1]


def test_higgs_gives_a_label_a_row_from_both_models(platform: Platform) -> None:
    found = served(platform, "higgs", higgs, "higgs.csv")
    assert set(found) == {"higgs", "higgs-xgboost"}
    features, labels = higgs.events(rows=400, seed=9)
    for status in found.values():
        assert status["units"][0]["compiled"] is True
        answers = asked(platform, status, body("higgs"))["predictions"]
        assert len(answers) == 2
        assert set(answers) <= {0, 1}
        answers = asked(platform, status, json.dumps({"instances": features.tolist()}))["predictions"]
        assert sum(answer == label for answer, label in zip(answers, labels.tolist(), strict=True)) > 0.75 * len(labels)


def test_tthbb_gives_a_probability_a_row_from_a_keras_network(platform: Platform) -> None:
    status = served(platform, "tthbb", tthbb, "tthbb.csv")["tthbb"]
    assert status["units"][0]["compiled"] is True
    found = asked(platform, status, body("tthbb"))["predictions"]
    assert len(found) == 2
    assert all(isinstance(value, float) and 0 < value < 1 for value in found)
    features, labels = tthbb.events(rows=400, seed=9)
    found = asked(platform, status, json.dumps({"instances": features.tolist()}))["predictions"]
    assert sum((value > 0.5) == label for value, label in zip(found, labels.tolist(), strict=True)) > 0.7 * len(labels)


def test_anomalies_are_found_by_one_service_with_a_transformer_and_a_predictor(platform: Platform) -> None:
    (platform.files / "examples" / "anomaly").mkdir(parents=True)
    shutil.copy(EXAMPLES / "anomaly" / "transformer.py", platform.files / "examples" / "anomaly")
    status = served(platform, "anomaly", anomaly, "windows.csv")["anomaly"]
    windows, truth = anomaly.windows(days=7, seed=2)
    found = asked(platform, status, json.dumps({"instances": windows.tolist()}))["predictions"]
    marked = [value for value, true in zip(found, truth, strict=True) if true == 1]
    assert sum(marked) / len(marked) > 0.6
    assert set(found) <= {0, 1}
