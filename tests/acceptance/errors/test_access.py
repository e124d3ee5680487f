"""Tokens of fewer rights, and what belongs to other projects."""

import contextlib

import pytest

from .conftest import Asked

RESULT = {
    "name": "secret",
    "project": "physics",
    "script": {"command": ["sh", "-c", "mkdir output; echo hidden > output/a; echo hidden"]},
}


@pytest.fixture(scope="module")
def result(asked):
    """An ended task of the project `physics`, with an output."""
    assert asked.request("POST", "/api/v1/projects", json={"meta": {"name": "physics"}, "spec": {}}).status_code == 201
    answer = asked.request("POST", "/api/v1/tasks", json=RESULT, headers={"Prefer": "wait=30"}).json()
    assert answer["task_status"] == "succeeded", answer
    return asked.request("GET", "/api/v1/projects/physics/tasks/secret").json()


@pytest.fixture(params=["viewer", "editor"])
def other(request, asked, platform):
    """Somebody who may work in `default` alone."""
    body = {"name": f"of-{request.param}", "role": request.param, "projects": ["default"]}
    made = asked.request("POST", "/api/v1/tokens", json=body)
    assert made.status_code == 201, made.text
    with contextlib.closing(Asked(platform, made.json()["token"])) as theirs:
        yield theirs
    asked.request("DELETE", f"/api/v1/tokens/of-{request.param}")


def test_nothing_of_another_project_can_be_seen(other, result):
    uid, digest = result["meta"]["uid"], result["status"]["output"]["hash"]
    for path in (
        "projects/physics/tasks", "projects/physics/tasks/secret", "projects/physics/tasks/secret/logs",
        "projects/physics/tasks/secret/events", "projects/physics/tasks/secret/metrics", "projects/physics/workloads",
        f"tasks/{uid}", f"projects/physics/blobs/{digest}", f"projects/default/blobs/{digest}",
        "projects/physics", "projects/default/tasks/..%2f..%2fphysics%2ftasks%2fsecret", "tokens",
    ):  # fmt: skip
        answer = other.request("GET", f"/api/v1/{path}")
        assert answer.status_code in (403, 404), (path, answer.status_code, answer.text)
        assert "hidden" not in answer.text
    for path in ("projects/-/tasks", "tasks", "projects"):
        answer = other.request("GET", f"/api/v1/{path}")
        assert answer.status_code == 200, (path, answer.text)
        assert "secret" not in answer.text
        assert "physics" not in answer.text


def test_nothing_of_another_project_can_be_changed(asked, other, result):
    uid = result["meta"]["uid"]
    for method, path, body in (
        ("DELETE", f"tasks/{uid}", None),
        ("DELETE", "projects/physics/tasks/secret", None),
        ("PATCH", "projects/physics/tasks/secret", {"spec": {"priority": 3}}),
        ("POST", "projects/physics/tasks/secret/cancel", None),
        ("POST", "tasks", RESULT | {"name": "intruder"}),
        ("POST", "projects/physics/tasks", {"meta": {"name": "x"}, "spec": {"recipe": "script", "command": ["true"]}}),
        (
            "POST",
            "projects/default/tasks",
            {"meta": {"name": "x", "project": "physics"}, "spec": {"recipe": "script", "command": ["true"]}},
        ),
        ("POST", "projects", {"meta": {"name": "mine"}, "spec": {}}),
        ("DELETE", "projects/physics", None),
        ("POST", "tokens", {"name": "up", "role": "admin"}),
    ):
        answer = (
            other.request(method, f"/api/v1/{path}", json=body) if body else other.request(method, f"/api/v1/{path}")
        )
        assert answer.status_code in (403, 404, 422), (method, path, answer.status_code, answer.text)
    tasks = asked.request("GET", "/api/v1/projects/physics/tasks").json()["items"]
    assert [task["meta"]["name"] for task in tasks] == ["secret"]


def test_the_output_of_another_project_is_no_input(asked, other, result):
    reading = {"script": {"command": ["cat", "inputs/x/a"], "inputs": {"x": {"path": "task:secret"}}}}
    for path in (
        "task:secret",
        "task:physics/secret",
        "task:../physics/secret",
        f"blobs:{result['status']['output']['hash']}",
    ):
        reading["script"]["inputs"]["x"]["path"] = path
        answer = other.request("POST", "/api/v1/tasks", json=reading)
        assert answer.status_code in (403, 404, 422), (path, answer.text)


def test_a_viewer_changes_nothing_and_a_workload_is_made_by_no_user(asked, platform):
    made = asked.request("POST", "/api/v1/tokens", json={"name": "reads", "role": "viewer", "projects": []}).json()
    with contextlib.closing(Asked(platform, made["token"])) as viewer:
        assert viewer.request("POST", "/api/v1/tasks", json={"script": {"command": ["true"]}}).status_code == 403
        assert viewer.request("GET", "/api/v1/tasks").status_code == 200
        assert viewer.request("GET", "/api/v1/tokens").status_code == 403
    asked.request("DELETE", "/api/v1/tokens/reads")
    made = asked.request(
        "POST", "/api/v1/tokens", json={"name": "edits", "role": "editor", "projects": ["default"]}
    ).json()
    workload = {"meta": {"name": "w"}, "spec": {"trusted": True, "roles": [{"name": "main", "command": ["id"]}]}}
    with contextlib.closing(Asked(platform, made["token"])) as editor:
        answer = editor.request("POST", "/api/v1/projects/default/workloads", json=workload)
        assert answer.status_code in (403, 404, 405, 422), answer.text
