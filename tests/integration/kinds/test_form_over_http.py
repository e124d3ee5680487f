"""The institute's form over HTTP, against the whole platform in this process."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import yaml

from mlaas.app import Platform
from mlaas.kernel.settings import Settings

SCRIPT = {"script": {"command": ["sh", "-c", "echo hello"]}}


@pytest.fixture
async def client(tmp_path: Path, root: Path) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings(data=tmp_path / "data", local_roots=[root], cpus=2, warm=False)
    for name in ("blobs", "cache", "work", "files"):
        (settings.data / name).mkdir(parents=True)
    platform = Platform(settings)
    await platform.open()
    platform.start()
    token = (settings.data / "admin-token").read_text().strip()
    transport = httpx2.ASGITransport(platform.app)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers, timeout=60) as client:
        client.platform = platform
        yield client
    await platform.close()


BODIES = {
    "application/json": json.dumps(SCRIPT).encode(),
    "application/yaml": yaml.safe_dump(SCRIPT).encode(),
    "application/x-www-form-urlencoded": json.dumps(SCRIPT).encode(),
}


@pytest.mark.parametrize("content_type", BODIES)
async def test_post_get_delete(client, content_type):
    answer = await client.post("/api/v1/tasks", content=BODIES[content_type], headers={"Content-Type": content_type})
    assert answer.status_code == 201, answer.text
    posted = answer.json()
    assert posted["task_status"] == "pending"
    assert posted["stats"]["elapsed"] == "0:00:00"
    assert len(posted["stats"]["submitted"]) == len("2023-09-13T06:30:48")
    path = f"/api/v1/tasks/{posted['task_id']}"
    assert answer.headers["location"] == path
    ended = await client.get(path, headers={"Prefer": "wait=30"})
    assert ended.json()["task_status"] == "succeeded"
    assert ended.headers["preference-applied"] == "wait=30"
    listed = (await client.get("/api/v1/tasks")).json()["items"]
    assert [item["task_id"] for item in listed] == [posted["task_id"]]
    assert (await client.delete(path)).status_code == 202
    for _ in range(500):
        gone = await client.get(path)
        if gone.status_code == 404:
            break
    assert gone.json()["code"] == "not-found"


async def test_a_post_can_wait_and_a_failure_has_its_error(client):
    body = {"script": {"command": ["sh", "-c", "exit 3"]}, "name": "fails"}
    answer = await client.post("/api/v1/tasks", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 201
    assert answer.json()["task_status"] == "failed"
    assert set(answer.json()["error"]) >= {"code", "message", "hint"}
    again = await client.post("/api/v1/tasks", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "exists")


async def test_cancel_and_logs_by_name(client):
    body = {
        "kind": "task",
        "meta": {"name": "long"},
        "spec": {"recipe": "script", "command": ["sh", "-c", "echo on; exec sleep 60"]},
    }
    tasks = "/api/v1/projects/default/tasks"
    assert (await client.post(tasks, json=body)).status_code == 201
    for _ in range(2000):
        log = await client.get(f"{tasks}/long/logs")
        if log.text:
            break
    assert log.text == "on\n"
    assert (await client.post(f"{tasks}/long/cancel")).status_code == 202
    uid = (await client.get(f"{tasks}/long")).json()["meta"]["uid"]
    answer = await client.get(f"/api/v1/tasks/{uid}", headers={"Prefer": "wait=30"})
    assert answer.json()["task_status"] == "cancelled"
    assert (await client.post(f"{tasks}/nobody/cancel")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({**SCRIPT, "predict_input": {"input_text": ["a"]}}, 422, "predict_input"),
        ({**SCRIPT, "resources": {"cpu": 1000}}, 422, "resources.cpu"),
        ({**SCRIPT, "project": "nowhere"}, 404, "project"),
        ({**SCRIPT, "queue": "gold"}, 422, "queue"),
        ({**SCRIPT, "engine": "kubernetes"}, 422, "engine"),
        ({**SCRIPT, "retrys": 1}, 422, "retrys"),
        ([], 422, "body"),
        ({"kind": "task", "meta": {"name": "a"}, "spec": {"recipe": "script", "command": ["true"]}}, 422, "spec"),
    ],
)
async def test_refusals_name_the_field(client, body, status, field):
    answer = await client.post("/api/v1/tasks", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("named", "says", "instead"),
    [
        ({"queue": "gold"}, "no queue 'gold'", "Leave queue out"),
        ({"environment": "torch-1"}, "no environment 'torch-1'", "Leave environment out"),
        ({"engine": "kubernetes"}, "no engine 'kubernetes'", "Leave engine out"),
    ],
)
async def test_a_name_that_is_not_here_is_refused_with_what_to_do_instead(client, named, says, instead):
    problem = (await client.post("/api/v1/tasks", json={**SCRIPT, **named})).json()
    assert says in problem["detail"]
    assert instead in problem["hint"]


async def test_a_path_that_is_a_task_s_name_is_said(client):
    posted = await client.post("/api/v1/tasks", json={**SCRIPT, "name": "strings"})
    assert posted.status_code == 201
    asked = {"model": {"path": "strings"}, "predict_input": {"input_text": ["a"]}}
    refused = await client.post("/api/v1/tasks", json=asked)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "model.path")
    assert "task:strings" in refused.json()["hint"]
    refused = await client.post("/api/v1/tasks", json={**asked, "model": {"path": "string"}})
    assert "task:" not in refused.json()["hint"]


async def test_the_output_of_a_task_without_one_says_what_to_do(client):
    for name, script, advice in (
        ("held", {**SCRIPT, "suspend": True}, "mlaas wait held"),
        ("broken", {"script": {"command": ["false"]}}, "mlaas describe task broken"),
    ):
        seconds = 0 if script.get("suspend") else 30
        headers = {"Prefer": f"wait={seconds}"}
        assert (await client.post("/api/v1/tasks", json={**script, "name": name}, headers=headers)).status_code == 201
        asked = {"model": {"path": f"task:{name}"}, "predict_input": {"input_text": ["a"]}}
        refused = await client.post("/api/v1/tasks", json=asked)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (409, "model.path")
        assert advice in refused.json()["hint"]


async def test_the_generic_api_refuses_changes_of_what_is_fixed(client):
    tasks = "/api/v1/projects/default/tasks"
    body = {"kind": "task", "meta": {"name": "a"}, "spec": {"recipe": "script", "command": ["true"], "suspend": True}}
    assert (await client.post(tasks, json=body)).json()["status"]["phase"] == "Pending"
    patched = await client.patch(f"{tasks}/a", json={"spec": {"command": ["false"]}})
    assert (patched.status_code, patched.json()["code"]) == (409, "immutable")
    patched = await client.patch(f"{tasks}/a", json={"spec": {"suspend": False, "priority": 3}})
    assert patched.status_code == 200
    answer = await client.get(f"/api/v1/tasks/{patched.json()['meta']['uid']}", headers={"Prefer": "wait=30"})
    assert answer.json()["task_status"] == "succeeded"


async def test_projects(client):
    assert (await client.post("/api/v1/projects", json={"meta": {"name": "physics"}, "spec": {}})).status_code == 201
    answer = await client.post("/api/v1/tasks", json={**SCRIPT, "project": "physics", "name": "here"})
    assert answer.status_code == 201
    refused = await client.delete("/api/v1/projects/physics")
    assert refused.status_code == 409
    assert "here" in refused.json()["detail"]
    assert (await client.delete("/api/v1/projects/default")).status_code == 409


async def test_the_form_is_published(client):
    document = (await client.get("/openapi.json")).json()
    schema = document["paths"]["/api/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert any("model_train" in each["required"] for each in schema["anyOf"])
