"""The tabular examples from task to answer: trained by `fit`, served as `task:NAME`, asked with the V1 bodies as they are."""

import json
import shutil
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


def served(platform: Platform, name: str, generator: ModuleType, file: str, **spec: Any) -> dict[str, str]:
    """Train the example's first task, serve what it left; the service's addresses."""
    generator.write(platform.files / file)
    task = next(yaml.safe_load_all((EXAMPLES / name / f"{name}.yaml").read_text()))
    with platform.client() as client:
        client.create("tasks", task)
        client.wait(name, timeout=200)
        predictor = {"model": f"task:{name}"}
        document = {"kind": "service", "meta": {"name": name}, "spec": {"predictor": predictor, "access": "public"}}
        document["spec"] |= spec  # type: ignore[operator]
        client.create("services", document)
        end = time.monotonic() + 120
        while (found := client.get("services", name))["status"]["phase"] != "Ready":
            assert time.monotonic() < end, json.dumps(found["status"], indent=1)
            assert found["status"]["phase"] != "Failed", json.dumps(found["status"], indent=1)
            time.sleep(0.1)
    address: dict[str, str] = found["status"]["address"]
    return address


def asked(address: dict[str, str], body: Any) -> Any:
    """The answer to a body as plain `curl -d` sends it."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = httpx2.post(address["v1"], content=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_iris_answers_in_v1_and_v2(platform: Platform) -> None:
    address = served(platform, "iris", iris, "iris.csv")
    body = (EXAMPLES / "iris" / "input.json").read_bytes()
    assert asked(address, body) == {"predictions": [1, 1]}
    rows = json.loads(body)["instances"]
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": rows}
    answer = httpx2.post(address["v2"], json={"inputs": [tensor]}, timeout=60).json()
    assert answer["outputs"][0]["data"] == [1, 1]


def test_higgs_gives_a_label_a_row(platform: Platform) -> None:
    address = served(platform, "higgs", higgs, "higgs.csv")
    found = asked(address, (EXAMPLES / "higgs" / "input.json").read_bytes())["predictions"]
    assert len(found) == 2
    assert set(found) <= {0, 1}


def test_tthbb_gives_a_probability_a_row(platform: Platform) -> None:
    address = served(platform, "tthbb", tthbb, "tthbb.csv")
    found = asked(address, (EXAMPLES / "tthbb" / "input.json").read_bytes())["predictions"]
    assert len(found) == 2
    assert all(isinstance(value, float) and 0 < value < 1 for value in found)


def test_anomalies_are_found_by_one_service_with_a_transformer_and_a_predictor(platform: Platform) -> None:
    (platform.files / "windows").mkdir()
    shutil.copy(EXAMPLES / "anomaly" / "transformer.py", platform.files / "windows")
    transformer = {"source": "windows", "trusted": True}
    address = served(platform, "anomaly", anomaly, "windows.csv", transformer=transformer)
    windows, truth = anomaly.windows(days=7, seed=2)
    found = asked(address, json.dumps({"instances": windows.tolist()}))["predictions"]
    marked = [value for value, true in zip(found, truth, strict=True) if true == 1]
    assert sum(marked) / len(marked) > 0.6
    assert set(found) <= {0, 1}
