"""What a service says of itself: conditions, traffic, revisions, events, and the log of each replica."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.acceptance.interop.conftest import ROWS, applied, kubectl_like, manifest, sample, shown_ready, v1
from tests.platform import Platform

from mlaas.client import Client


def trusted(text: str) -> str:
    """The manifest with leave to run the model's own code."""
    return text.replace("spec:", '  annotations: {mlaas/spec: "{predictor: {trusted: true}}"}\nspec:', 1)


def status_when(client: Client, name: str, holds: Any, seconds: float = 60) -> dict[str, Any]:
    """The service's status once `holds` of it."""
    end = time.monotonic() + seconds
    while not holds(status := client.get("services", name)["status"]):
        assert time.monotonic() < end, status
        time.sleep(0.05)
    return dict(status)


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in status["conditions"]}


def test_status_tells_url_conditions_traffic_replicas_revisions_and_events(platform: Platform, client: Client) -> None:
    text = manifest(sample("telling", "sklearn", "sklearn"), platform)
    applied(client, text)
    shown_ready(client, "inferenceservices", "telling")
    first = status_when(client, "telling", lambda status: status["phase"] == "Ready")
    assert first["url"] == f"http://127.0.0.1:{platform.inference_port}/v2/models/telling"
    assert first["address"]["v1"].endswith("/v1/models/telling:predict")
    assert first["address"]["grpc"] == f"127.0.0.1:{platform.grpc_port}"
    assert first["replicas"] == 1
    assert first["traffic"] == [{"revision": first["revision"], "percent": 100}]
    ready = conditions(first)["Ready"]
    assert (ready["status"], ready["reason"]) == ("True", "Serving")
    since = datetime.fromisoformat(ready["last_transition_time"])

    applied(client, text.replace("/sklearn\n", "/second\n"))
    done = status_when(client, "telling", lambda status: status["traffic"][0]["revision"] != first["revision"])
    assert [each["version"] for each in done["revisions"]] == ["1", "2"]
    assert [Path(each["predictor"]["model"]).name for each in done["revisions"]] == ["sklearn", "second"]
    assert done["traffic"] == [{"revision": done["latest"], "percent": 100}]
    assert done["revision"] == done["latest"]

    # A predictor that does not load: the one before goes on answering, and the status says both.
    applied(client, text.replace("/sklearn\n", "/unreadable\n"))
    failed = status_when(client, "telling", lambda status: status["phase"] == "Degraded")
    assert failed["revision"] == done["revision"]
    said = conditions(failed)
    assert (said["PredictorReady"]["status"], said["PredictorReady"]["reason"]) == ("False", "LoadFailed")
    assert "unreadable holds no model.skops" in said["PredictorReady"]["message"]
    assert (said["Ready"]["status"], said["Ready"]["reason"]) == ("True", "EarlierRevision")
    assert datetime.fromisoformat(said["PredictorReady"]["last_transition_time"]) > since
    reasons = [(each["reason"], each["type"]) for each in client.events("telling", "services")["items"]]
    assert reasons.count(("RolledOut", "Normal")) >= 1
    assert ("LoadFailed", "Warning") in reasons

    described = kubectl_like(platform, "describe", "service", "telling").stdout
    assert "service telling  Degraded" in described
    table = described[described.index("revisions:") :].splitlines()
    assert table[1].split() == ["REVISION", "VERSION", "TRAFFIC", "PHASE", "SERVED", "CREATED", "MODEL"]
    assert [(line.split()[1], line.split()[2]) for line in table[2:5]] == [("3", "0%"), ("2", "100%"), ("1", "0%")]
    assert "sklearn, compiled" in table[3]
    assert "LoadFailed" in described


def test_the_log_of_a_service_is_what_its_processes_write(platform: Platform, client: Client) -> None:
    applied(client, trusted(manifest(sample("speaking", "custom", "twice"), platform)))
    shown = shown_ready(client, "inferenceservices", "speaking")
    v1(platform, shown)
    end = time.monotonic() + 30
    while "rows: 2" not in (said := kubectl_like(platform, "logs", "service", "speaking")).stdout:
        assert time.monotonic() < end, said
    revision = client.get("services", "speaking")["status"]["revision"]
    assert f"{revision}/0: rows: 2" in said.stdout.splitlines()
    following = client.logs("speaking", follow=True, plural="services")
    assert b"rows: 2" in next(following)
    v1(platform, shown, {"instances": ROWS[:1]})
    assert b"rows: 1" in next(following)
    following.close()
    same = kubectl_like(platform, "logs", "service/speaking").stdout
    assert kubectl_like(platform, "logs", "isvc/speaking").stdout == same
    assert kubectl_like(platform, "logs", "service/speaking", "--replica", revision).stdout == same
    assert kubectl_like(platform, "logs", "service/speaking", "--replica", "0").stdout == same


def test_each_replica_has_its_log_and_the_transformer_too(platform: Platform, client: Client) -> None:
    (platform.files / "loud").mkdir()
    (platform.files / "loud" / "transformer.py").write_text(
        "class Transformer:\n"
        "    def preprocess(self, inputs):\n"
        "        print('before', flush=True)\n"
        "        return inputs\n"
    )
    spec = {
        "predictor": {"model": str(platform.files / "twice"), "trusted": True, "workers": 2},
        "transformer": {"source": str(platform.files / "loud"), "trusted": True},
    }
    client.create("services", {"kind": "service", "meta": {"name": "several"}, "spec": spec})
    status = status_when(client, "several", lambda status: status.get("replicas") == 2)
    url = status["address"]["v1"].removesuffix("/v1/models/several:predict")
    v1(platform, {"metadata": {"name": "several"}, "status": {"url": url}})
    end = time.monotonic() + 30
    while "rows: 2" not in (said := kubectl_like(platform, "logs", "service/several").stdout):
        assert time.monotonic() < end, said
    assert "transformer/0: before" in said.splitlines()
    only = kubectl_like(platform, "logs", "service/several", "--replica", "transformer").stdout.splitlines()
    assert only == ["transformer/0: before"]
    missing = kubectl_like(platform, "logs", "service/several", "--replica", "nobody")
    assert missing.returncode == 3
    assert "no replica 'nobody'" in missing.stderr
    assert "transformer/0" in missing.stderr
    described = kubectl_like(platform, "describe", "service", "several").stdout
    assert "custom, 2 workers" in described


def test_why_a_model_does_not_load_is_in_its_log(platform: Platform, client: Client) -> None:
    (platform.files / "broken").mkdir()
    (platform.files / "broken" / "model.py").write_text(
        "class Model:\n"
        "    def load(self):\n"
        "        print('looks for the calibration', flush=True)\n"
        "        raise RuntimeError('no calibration')\n"
        "    def predict(self, inputs):\n"
        "        return inputs\n"
    )
    applied(client, trusted(manifest(sample("broken", "custom", "broken"), platform)))
    status = status_when(client, "broken", lambda status: status["phase"] == "Failed")
    assert "RuntimeError: no calibration" in conditions(status)["Ready"]["message"]
    said = kubectl_like(platform, "logs", "service/broken").stdout
    assert "/0: looks for the calibration" in said
    assert "line 4, in load" in said
    waited = kubectl_like(platform, "wait", "service/broken")
    assert (waited.returncode, waited.stdout.strip()) == (1, "service/broken Failed")
    assert "RuntimeError: no calibration" in waited.stderr
    assert "RuntimeError: no calibration" in kubectl_like(platform, "get", "services").stdout
    silent = kubectl_like(platform, "logs", "service/telling-nothing")
    assert (silent.returncode, "There is no service" in silent.stderr) == (3, True)


def test_a_service_is_waited_for_until_it_answers(platform: Platform, client: Client) -> None:
    client.submit({"recipe": "script", "command": ["sleep", "600"]}, "late")
    spec = {"predictor": {"model": "task:late"}}
    client.create("services", {"kind": "service", "meta": {"name": "late"}, "spec": spec})
    waiting = kubectl_like(platform, "wait", "service", "late", "--timeout", "1")
    assert waiting.returncode == 124
    assert "late: Pending: " in waiting.stderr
    assert "'late'" in waiting.stderr
    client.cancel("late")
    patch = {"spec": {"predictor": {"model": str(platform.files / "sklearn")}}}
    client.patch("services", "late", patch)
    waited = kubectl_like(platform, "wait", "service/late")
    assert (waited.returncode, waited.stdout.strip()) == (0, "service/late Ready"), waited.stderr


def test_a_compiled_model_has_no_log_and_that_is_said(platform: Platform, client: Client) -> None:
    applied(client, manifest(sample("quiet", "sklearn", "sklearn"), platform))
    assert kubectl_like(platform, "wait", "isvc/quiet").returncode == 0
    said = kubectl_like(platform, "logs", "service/quiet")
    assert (said.returncode, said.stdout) == (0, "")
    assert "wrote nothing" in said.stderr
