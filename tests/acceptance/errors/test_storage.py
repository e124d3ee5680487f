"""Storage that refuses: a key that is denied, a full disk, a target that exists."""

import contextlib
import os
import subprocess

import pytest
from tests.platform import Platform
from tests.servers.s3 import s3_server  # noqa: F401

from .conftest import Asked, prediction, training

pytestmark = pytest.mark.slow

INDEX = {
    "model": {"path": "model", "storage_type": "local", "objective": "no-objective"},
    "dataset": {"path": "good.csv", "storage_type": "local"},
}


def saving(path, storage_type="local"):
    return {**INDEX, "vector_store_save": {"path": path, "format": "vector_store", "storage_type": storage_type}}


@pytest.fixture(scope="module")
def bucket(s3_server):  # noqa: F811
    server = s3_server.with_bucket()
    server.client().put_object(Bucket=server.bucket, Key="data/rows.csv", Body=b"text,label\na,b\n")
    return server


@pytest.fixture(scope="module")
def platform(tmp_path_factory, bucket):
    """A platform whose S3 user may reach nothing of the bucket."""
    environment = {"MLAAS_S3_BUCKET": bucket.bucket, **bucket.stranger().environment()}
    with Platform(tmp_path_factory.mktemp("platform"), MLAAS_WARM="0", **environment) as running:
        yield running


def test_a_key_that_is_denied(asked, files, bucket):
    dataset = {"storage_type": "s3", "train_test_split": 0.5}
    for path in ("data/rows.csv", f"s3://{bucket.bucket}/data/rows.csv"):
        problem = asked.refused({**training(), "dataset": {"path": path, **dataset}}, 403)
        assert problem["errors"][0]["field"] == "dataset.path"
        assert "denies access" in problem["detail"]
    problem = asked.refused(saving("out", "s3"), 403)
    assert problem["errors"][0]["field"] == "vector_store_save.path"
    problem = asked.refused(
        prediction(model={"path": "m", "storage_type": "s3", "objective": "text-classification"}), 403
    )
    assert problem["errors"][0]["field"] == "model.path"


@pytest.mark.parametrize(
    "path", ["s3://", "s3:///x", "s3://UPPER/x", "../x", "a/../b", "s3://b/../x", "a\u0000b", "x" * 2000]
)
def test_keys_that_cannot_be(asked, files, path):
    answer = asked.request(
        "POST", "/api/v1/tasks", json={**training(), "dataset": {"path": path, "storage_type": "s3"}}
    )
    assert answer.status_code in (400, 403, 422), answer.text


def test_a_target_that_exists(asked, files):
    (files / "taken").mkdir()
    (files / "file").write_text("mine")
    for path in ("taken", "file"):
        problem = asked.refused(saving(path), 409)
        assert problem["code"] == "exists"
        assert problem["errors"][0]["field"] == "vector_store_save.path"
    assert (files / "file").read_text() == "mine"
    assert asked.ended(saving("made"))["task_status"] == "succeeded"
    assert asked.refused(saving("made"), 409)["code"] == "exists"


def test_two_tasks_with_one_target(asked, files):
    """Both are accepted while the target is free; one makes it, the other says that it exists."""
    uids = [asked.request("POST", "/api/v1/tasks", json=saving("both")).json()["task_id"] for _ in range(2)]
    answers = [asked.request("GET", f"/api/v1/tasks/{uid}", headers={"Prefer": "wait=60"}).json() for uid in uids]
    assert sorted(answer["task_status"] for answer in answers) == ["failed", "succeeded"], answers
    error = next(answer["error"] for answer in answers if answer["task_status"] == "failed")
    assert error["code"] == "exists"
    assert error["field"].startswith("vector_store_save")


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small file system; root only."""
    places = []

    def mount(place, size):
        place.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip("a file system cannot be mounted here")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_below_the_target(asked, files, mounted):
    small = mounted(files / "small", "16k")
    error = asked.said(saving("small/store"))
    assert error["code"] == "storage-full", error
    assert error["field"].startswith("vector_store_save")
    assert list(small.iterdir()) == []
    error = asked.said({**training(), "model_save": {"path": "small/model", "storage_type": "local"}})
    assert error["code"] == "storage-full", error
    assert error["field"].startswith("model_save")
    assert list(small.iterdir()) == []


def test_a_full_data_folder(tmp_path, mounted):
    """Requests are refused with 507 and the reason; what was accepted goes on when there is room again."""
    data = mounted(tmp_path / "data", "24m")
    with Platform(tmp_path, MLAAS_WARM="0") as platform, contextlib.closing(Asked(platform)) as asked:
        body = {"script": {"command": ["sh", "-c", "mkdir -p output; echo kept > output/a; echo done"]}}
        assert asked.ended(body)["task_status"] == "succeeded"
        first = asked.request("POST", "/api/v1/tasks", json={"script": {"command": ["sh", "-c", (
            "while test -e $0; do sleep 0.05; done; mkdir -p output; head -c 300000 /dev/urandom > output/a; echo done"
        ), str(platform.files / "gate")]}, "name": "first"})  # fmt: skip
        (platform.files / "gate").write_text("")
        fill(data / "filler")
        codes = set()
        for i in range(40):
            answer = asked.request("POST", "/api/v1/tasks", json={**body, "name": f"full{i}"})
            codes.add(answer.status_code)
            if answer.status_code == 507:
                assert answer.json()["code"] == "storage-full"
        assert codes <= {201, 507}, codes
        assert asked.request("GET", "/api/v1/tasks").status_code == 200
        (platform.files / "gate").unlink()
        (data / "filler").unlink()
        uid = first.json()["task_id"]
        answer = asked.request("GET", f"/api/v1/tasks/{uid}", headers={"Prefer": "wait=60"}).json()
        assert answer["task_status"] == "succeeded", answer
        for task in asked.request("GET", "/api/v1/projects/default/tasks?limit=1000").json()["items"]:
            uid = task["meta"]["uid"]
            answer = asked.request("GET", f"/api/v1/tasks/{uid}", headers={"Prefer": "wait=60"}).json()
            assert answer["task_status"] == "succeeded", answer
        assert "Traceback" not in platform.tail(100_000), platform.tail(3000)


def fill(path):
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue
