"""Answers of more than a mebibyte: whole for who asks for them, and in nobody's way in a list."""

import pytest

from .conftest import prediction

pytestmark = pytest.mark.slow


def vectors(count):
    body = prediction(model={"path": "model", "storage_type": "local", "objective": "no-objective"})
    return {**body, "predict_input": {"input_text": [f"INFN {i}" for i in range(count)], "batch_size": 256}}


@pytest.mark.parametrize("count", [3, 4000, 40_000])
def test_vectors_come_back_whole(asked, files, platform, count):
    """Of 32 numbers each: below a mebibyte, above it, and more than 16 of them."""
    posted = asked.request("POST", "/api/v1/tasks", json=vectors(count), headers={"Prefer": "wait=120"})
    assert posted.status_code == 201, posted.text[:1000]
    uid = posted.json()["task_id"]
    answer = asked.request("GET", f"/api/v1/tasks/{uid}")
    document = answer.json()
    assert document["task_status"] == "succeeded", document.get("error")
    assert [len(entry["embedding"]) for entry in document["predictions"]] == [32] * count
    first, last = document["predictions"][0]["embedding"], document["predictions"][-1]["embedding"]
    assert first != last
    assert sum(x * x for x in first) > 0
    assert posted.json()["predictions"] == document["predictions"]
    assert len(asked.request("GET", "/api/v1/tasks").content) < 1 << 16
    name = document["name"]
    resource = asked.request("GET", f"/api/v1/projects/default/tasks/{name}")
    if count == 3:
        assert len(resource.json()["status"]["predictions"]) == 3
        return
    assert len(answer.content) > 1 << 20
    assert len(resource.content) < 1 << 21  # its inputs are in its spec
    status = resource.json()["status"]
    assert "predictions" not in status
    assert status["large"]["keys"] == ["predictions"]
    kept = asked.request("GET", f"/api/v1/projects/default/blobs/{status['large']['hash']}").json()
    assert kept["predictions"] == document["predictions"]


def test_the_client_gets_them_whole(asked, files, platform):
    with platform.client() as client:
        body = vectors(3000)
        found = client.predict(body["model"], body["predict_input"]["input_text"])
    assert len(found) == 3000
    assert {len(entry["embedding"]) for entry in found} == {32}
