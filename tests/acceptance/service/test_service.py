"""Services on a real platform: from a folder to an answer, with rollouts, access, and what dies meanwhile."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.acceptance.service.serving import act, ask, ready, service, until
from tests.platform import Platform, gone

from mlaas.client import ApiError, Client


def test_a_folder_becomes_an_endpoint_that_its_project_may_call(platform: Platform, client: Client) -> None:
    client.create("services", service("iris", "one"))
    status = until(client, "iris", ready)
    url = status["address"]["v1"]
    assert ask(url, platform.token) == (200, {"predictions": [0, 2]})
    status_code, refused = ask(url)
    assert status_code == 404
    assert "Authorization: Bearer" in refused["error"]
    gateway = f"{platform.url}/api/v1/projects/default/services/iris/proxy"
    assert ask(f"{gateway}/v1/models/iris:predict", platform.token) == (200, {"predictions": [0, 2]})
    assert ask(f"{gateway}/v1/models/other:predict", platform.token)[0] == 403
    assert ask(f"{gateway}/v1/models/iris:predict")[0] == 401
    assert status["units"][0]["compiled"] is True
    assert status["replicas"] == 1


def test_a_token_is_good_within_a_second_and_void_within_a_second(platform: Platform, client: Client) -> None:
    if "iris" not in [each["meta"]["name"] for each in client.list("services")["items"]]:
        client.create("services", service("iris", "one"))
    url = until(client, "iris", ready)["address"]["v1"]
    made = act(platform, "POST", "tokens", {"name": "caller", "role": "viewer", "projects": ["default"]})
    end = time.monotonic() + 5
    while ask(url, made["token"])[0] != 200:
        assert time.monotonic() < end
    act(platform, "DELETE", "tokens/caller")
    begin = time.monotonic()
    while ask(url, made["token"])[0] == 200:
        assert time.monotonic() < begin + 5
    assert time.monotonic() - begin < 3  # a busy machine; one look a quarter of a second


def test_a_new_model_takes_over_and_can_be_rolled_back(platform: Platform, client: Client) -> None:
    client.create("services", service("roll", "one", access="public"))
    url = until(client, "roll", ready)["address"]["v1"]
    client.patch("services", "roll", {"spec": {"predictor": {"model": "two"}}})
    status = until(client, "roll", ready)
    end = time.monotonic() + 30
    while ask(url) != (200, {"predictions": [10, 12]}):
        assert time.monotonic() < end
    assert [each["version"] for each in status["revisions"]] == ["1", "2"]
    act(platform, "POST", "projects/default/services/roll/rollback")
    while ask(url) != (200, {"predictions": [0, 2]}):
        assert time.monotonic() < end + 30
    assert client.get("services", "roll")["spec"]["predictor"]["model"] == "one"


def test_a_model_that_does_not_load_leaves_the_one_before_answering(platform: Platform, client: Client) -> None:
    client.create("services", service("bad", "one", access="public"))
    url = until(client, "bad", ready)["address"]["v1"]
    client.patch("services", "bad", {"spec": {"predictor": {"model": "empty"}}})
    status = until(client, "bad", lambda found: found["phase"] == "Degraded")
    assert ask(url) == (200, {"predictions": [0, 2]})
    messages = " ".join(condition["message"] for condition in status["conditions"])
    assert "notes.md" in messages
    client.patch("services", "bad", {"spec": {"predictor": {"model": "two"}}})
    until(client, "bad", ready)
    end = time.monotonic() + 30
    while ask(url) != (200, {"predictions": [10, 12]}):
        assert time.monotonic() < end


def test_a_canary_gets_its_share_and_is_promoted(platform: Platform, client: Client) -> None:
    client.create("services", service("canary", "one", access="public"))
    url = until(client, "canary", ready)["address"]["v1"]
    change = {"spec": {"predictor": {"model": "two"}, "rollout": {"canary_traffic_percent": 30}}}
    client.patch("services", "canary", change)
    status = until(client, "canary", lambda found: [side["percent"] for side in found.get("traffic", [])] == [70, 30])
    dark = status["traffic"][1]["revision"]
    end = time.monotonic() + 60
    while ask(url, mlaas_revision=dark) != (200, {"predictions": [10, 12]}):
        assert time.monotonic() < end
    answers = [ask(url)[1]["predictions"][0] for _ in range(200)]
    assert 30 < answers.count(10) < 95
    assert set(answers) == {0, 10}
    act(platform, "POST", "projects/default/services/canary/promote")
    until(client, "canary", lambda found: ready(found) and len(found["traffic"]) == 1)
    assert {ask(url)[1]["predictions"][0] for _ in range(30)} == {10}


def test_scaled_to_zero_it_is_ready_and_the_first_request_is_answered(platform: Platform, client: Client) -> None:
    scaling = {"min_replicas": 0, "idle_timeout": 1}
    client.create("services", service("zero", "three", access="public", scaling=scaling))
    status = until(client, "zero", ready)
    assert [unit["phase"] for unit in status["units"]] == ["Cold"]
    assert ask(status["address"]["v1"]) == (200, {"predictions": [20, 22]})
    until(client, "zero", lambda found: found["units"][0]["phase"] == "Cold")
    assert ask(status["address"]["v1"]) == (200, {"predictions": [20, 22]})


def test_a_graph_of_services_answers(platform: Platform, client: Client) -> None:
    for name, model in (("g1", "one"), ("g2", "two")):
        client.create("services", service(name, model))
        until(client, name, ready)
    steps = [{"name": "left", "service": "g1"}, {"name": "right", "service": "g2"}]
    graph = {"root": {"router": "Ensemble", "steps": steps}}
    client.create(
        "services", {"kind": "service", "meta": {"name": "both"}, "spec": {"graph": graph, "access": "public"}}
    )
    status = until(client, "both", lambda found: found["phase"] == "Ready")
    assert ask(status["address"]["v1"]) == (
        200,
        {"left": {"predictions": [0, 2]}, "right": {"predictions": [10, 12]}},
    )


def test_the_model_answers_on_while_the_platform_is_killed_and_comes_back(platform: Platform, client: Client) -> None:
    client.create("services", service("stays", "one", access="public"))
    url = until(client, "stays", ready)["address"]["v1"]
    platform.kill()
    assert ask(url) == (200, {"predictions": [0, 2]})
    platform.start()
    assert ask(url) == (200, {"predictions": [0, 2]})
    client.patch("services", "stays", {"spec": {"predictor": {"model": "two"}}})
    end = time.monotonic() + 90
    while ask(url) != (200, {"predictions": [10, 12]}):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_model_server_killed_9_comes_back_with_everything(platform: Platform, client: Client) -> None:
    client.create("services", service("again", "one", access="public"))
    url = until(client, "again", ready)["address"]["v1"]
    workload = client.get("workloads", "model-server", project="system")
    os.kill(workload["status"]["replicas"][0]["pid"], signal.SIGKILL)
    end = time.monotonic() + 90
    while True:
        try:
            if ask(url) == (200, {"predictions": [0, 2]}):
                break
        except httpx2.HTTPError:
            pass
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_deleted_service_is_gone_from_the_port_too(platform: Platform, client: Client) -> None:
    client.create("services", service("brief", "one", access="public"))
    url = until(client, "brief", ready)["address"]["v1"]
    client.delete("services", "brief")
    end = time.monotonic() + 30
    while not gone(client, "services", "brief"):
        assert time.monotonic() < end
    assert ask(url)[0] == 404


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        (service("x", "nowhere/at/all"), "spec.predictor.model", "nothing at"),
        (service("x", "iris@champion"), "spec.predictor.model", "no model 'iris@champion'"),
        (service("x", "task:none"), "spec.predictor.model", "no task 'none'"),
        (service("x", "one", engine="mars"), "spec.engine", "no engine 'mars'"),
        (service("x", "one", logger={"url": "file:///etc/passwd"}), "spec.logger.url", "outside the folders"),
        (service("x", "one", scaling={"min_replicas": 3}), "spec.scaling", "above max_replicas"),
        (service("x", "one", scalling={}), "spec.scalling", "did you mean 'scaling'"),
        ({"kind": "service", "meta": {"name": "x"}, "spec": {}}, "spec", "either a predictor or a graph"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(
    client: Client, document: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ApiError) as refused:
        client.create("services", document)
    assert refused.value.status in (404, 422)
    assert words in str(refused.value)
    assert field in [error["field"] for error in refused.value.errors]


def test_models_are_files_of_the_roots_only(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="outside the folders"):
        client.create("services", service("x", str(tmp_path)))
