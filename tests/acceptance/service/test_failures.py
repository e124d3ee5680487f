"""A model whose workers die: what its clients get, and what its owner is told."""

import subprocess
import sys
import time
from typing import Any

import httpx2
from tests.acceptance.service.serving import ask, ready, until
from tests.platform import Platform

from mlaas.client import Client

_MODEL = """
import os


class Model:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1]}]

    def predict(self, inputs):
        if (inputs["x"] < 0).any():
            os.abort()
        return inputs["x"][:, 0] * 2
"""


def mlaas(platform: Platform, *words: str) -> str:
    environment = {**platform.environment, "MLAAS_DATA": str(platform.data), "COLUMNS": "80"}
    command = [sys.executable, "-m", "mlaas", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_deaths_are_events_and_a_model_that_keeps_dying_is_shown_as_set_aside(
    platform: Platform, client: Client
) -> None:
    folder = platform.files / "mortal"
    folder.mkdir()
    (folder / "model.py").write_text(_MODEL)
    spec = {"predictor": {"model": "mortal", "trusted": True}, "access": "public"}
    client.create("services", {"kind": "service", "meta": {"name": "mortal"}, "spec": spec})
    until(client, "mortal", ready)
    base = f"http://127.0.0.1:{platform.inference_port}"
    url = f"{base}/v1/models/mortal:predict"

    def deadly() -> None:
        status, answer = ask(url, body={"instances": [[-1]]})
        assert status == 503
        assert "SIGABRT" in answer["error"] or "set aside" in answer["error"]

    deadly()
    assert ask(url, body={"instances": [[4]]}) == (200, {"predictions": [8.0]})
    status = until(client, "mortal", lambda found: found["units"][0].get("restarts") == 1)
    assert conditions(status)["PredictorReady"] == ("True", "Loaded")
    (event,) = [each for each in client.events("mortal", "services")["items"] if each["reason"] == "WorkerDied"]
    assert "SIGABRT" in event["message"]
    assert "custom, 1 worker, 1 restart" in mlaas(platform, "describe", "service", "mortal")

    end = time.monotonic() + 60
    while ask(url, body={"instances": [[-1]]})[1]["error"].find("set aside") < 0:
        assert time.monotonic() < end
    assert ask(f"{base}/v1/models/other:predict")[0] == 404  # the server itself answers
    status = until(client, "mortal", lambda found: conditions(found)["PredictorReady"][0] == "False")
    assert conditions(status)["Ready"] == conditions(status)["PredictorReady"] == ("False", "SetAside")
    assert status["phase"] == "Degraded"
    said = mlaas(platform, "describe", "service", "mortal")
    assert "set aside" in said
    assert "SIGABRT" in said
    assert "mlaas logs service/mortal" in said
    answer = httpx2.get(f"{base}/v2/models/mortal/ready")
    assert answer.status_code == 503
    index = httpx2.post(f"{base}/v2/repository/index").json()
    (entry,) = [each for each in index if each["name"] == "mortal"]
    assert entry["state"] == "UNAVAILABLE"
    assert "set aside after 5 crashes" in entry["reason"]

    (folder / "model.py").write_text(_MODEL.replace("os.abort()", "pass"))
    client.patch("services", "mortal", {"spec": {"predictor": {"timeout": 5}}})
    until(client, "mortal", ready)
    assert ask(url, body={"instances": [[-1]]}) == (200, {"predictions": [-2.0]})
    client.delete("services", "mortal")
