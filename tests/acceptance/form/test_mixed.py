"""One body whose paths are on the platform's disk and in S3, as keys of the platform's bucket and as addresses of another."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.acceptance.form import bodies
from tests.acceptance.form.conftest import ABSTRACTS, SITES, keys, replace_paths, upload, write_inputs
from tests.platform import Platform
from tests.servers.s3 import S3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SAVED = ("config.json", "model.safetensors", "tokenizer.json", ".mlaas.json")


@dataclass(frozen=True)
class House:
    """A platform on whose disk is only `disk/`; the same inputs lie below `bucket/` in its own bucket, and below `far/` in
    another one."""

    platform: Platform
    own: S3
    other: S3

    def post(self, body: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.platform.token}", "Prefer": "wait=30"}
        headers["Content-Type"] = "application/yaml"
        return httpx2.post(f"{self.platform.url}/api/v1/tasks", content=body, headers=headers, timeout=90)

    def run(self, body: str) -> dict[str, Any]:
        """The answer of the ended task."""
        answer = self.post(body)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        for _ in range(6):
            if document["task_status"] not in ("pending", "queued", "running"):
                break
            headers = {"Authorization": f"Bearer {self.platform.token}", "Prefer": "wait=30"}
            url = f"{self.platform.url}/api/v1/tasks/{document['task_id']}"
            document = httpx2.get(url, headers=headers, timeout=90).json()
        assert document["task_status"] == "succeeded", document
        return document

    def far(self, key: str) -> str:
        return f"s3://{self.other.bucket}/far/{key}"


@pytest.fixture(scope="module")
def house(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    inputs = tmp_path_factory.mktemp("inputs")
    write_inputs(inputs)
    own, other = s3_server.with_bucket(), s3_server.with_bucket()
    for prefix, server in (("bucket", own), ("far", other)):
        above = tmp_path_factory.mktemp("upload")
        shutil.copytree(inputs, above / prefix)
        upload(server, above)
    platform = Platform(tmp_path_factory.mktemp("mixed"), MLAAS_S3_BUCKET=own.bucket, **own.environment())
    shutil.copytree(inputs, platform.files / "disk")
    with platform:
        yield House(platform, own, other)


def train(house: House, body: str) -> None:
    answer = house.run(body)
    assert len(answer["history"]["loss"]) == 10
    assert (answer["dataset"]["samples_train"], answer["dataset"]["samples_test"]) == (54, 6)


def classify(house: House, model: str, storage: str) -> None:
    """The saved model, read from where it was saved, knows the labels of the data set."""
    body = bodies.CLASSIFY.replace("path/to/model, storage_type: s3", f"path/to/model, storage_type: {storage}")
    (prediction,) = house.run(replace_paths(body, {"path/to/tokenizer": "bucket/encoder", "path/to/model": model}))[
        "predictions"
    ]
    assert set(prediction["scores"]) == set(SITES)


def test_the_institute_s_body_to_the_letter(house: House) -> None:
    """The model from the disk; tokenizer, data set and target keys of the platform's bucket."""
    paths = {
        "path/to/tokenizer": "bucket/encoder",
        "path/to/model/to/load": "disk/small",
        "path/to/dataset/to/load": "bucket/affiliations.csv",
        "path/to/model/to/save": "models/letter",
    }
    train(house, replace_paths(bodies.TRAIN, paths))
    assert set(keys(house.own, "models/letter/")) >= {f"models/letter/{name}" for name in SAVED}
    assert not (house.platform.files / "models").exists()
    classify(house, "models/letter", "s3")


def test_the_reverse(house: House) -> None:
    """The model from S3; tokenizer, data set and target on the disk."""
    turned = bodies.TRAIN.replace("storage_type: local", "storage_type: X").replace(
        "storage_type: s3", "storage_type: local"
    )
    paths = {
        "path/to/tokenizer": "disk/encoder",
        "path/to/model/to/load": "bucket/small",
        "path/to/dataset/to/load": "disk/affiliations.csv",
        "path/to/model/to/save": "models/reverse",
    }
    train(house, replace_paths(turned.replace("storage_type: X", "storage_type: s3"), paths))
    assert {path.name for path in (house.platform.files / "models" / "reverse").iterdir()} >= set(SAVED)
    assert keys(house.own, "models/reverse") == []
    classify(house, "models/reverse", "local")


def test_addresses_where_keys_are_expected(house: House) -> None:
    """Whole addresses, of another bucket than the platform's; an address says where, whatever the storage type says."""
    paths = {
        "path/to/tokenizer": house.far("encoder"),
        "path/to/model/to/load": house.far("small"),
        "path/to/dataset/to/load": house.far("affiliations.csv"),
        "path/to/model/to/save": house.far("saved"),
    }
    train(house, replace_paths(bodies.TRAIN, paths))
    assert set(keys(house.other, "far/saved/")) >= {f"far/saved/{name}" for name in SAVED}
    classify(house, house.far("saved"), "s3")


def test_fill_masks_by_address(house: House) -> None:
    paths = {"path/to/tokenizer": "bucket/encoder", "path/to/model": house.far("filler")}
    (prediction,) = house.run(replace_paths(bodies.FILL, paths))["predictions"]
    assert len(prediction["masks"]) == 3


def test_index_and_search_across(house: House) -> None:
    """Documents from the disk, the store to an address; searched with a model from a key."""
    body = bodies.INDEX.replace(
        "path/to/dataset/to/load, storage_type: s3", "path/to/dataset/to/load, storage_type: local"
    )
    paths = {
        "path/to/tokenizer": "bucket/encoder",
        "path/to/model": house.far("encoder"),
        "path/to/dataset/to/load": "disk/abstracts.csv",
        "path/to/vector/store/to/save": house.far("store"),
        "column-name": "abstract",
    }
    assert house.run(replace_paths(body, paths))["index"]["vectors"] == len(ABSTRACTS)
    assert "far/store/.mlaas.json" in keys(house.other, "far/store/")
    paths = {
        "path/to/tokenizer": "bucket/encoder",
        "path/to/model": "bucket/encoder",
        "path/to/vector/store/to/load": house.far("store"),
    }
    (hits,) = house.run(replace_paths(bodies.SEARCH, paths))["results"]
    assert (hits[0]["content"], hits[0]["metadata"]["project"]) == ABSTRACTS[0]


def test_a_missing_key_names_the_field_and_the_whole_address(house: House) -> None:
    paths = {"path/to/tokenizer": "bucket/encoder", "path/to/model": "bucket/nothing-here"}
    answer = house.post(replace_paths(bodies.CLASSIFY, paths))
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["errors"][0]["field"] == "model.path"
    assert f"s3://{house.own.bucket}/bucket/nothing-here" in problem["detail"]
    answer = house.post(replace_paths(bodies.CLASSIFY, {**paths, "path/to/model": "s3://no-such-bucket-here/model"}))
    assert answer.status_code == 422
    assert "no-such-bucket-here" in answer.json()["detail"]


def test_a_taken_target_is_refused_wherever_it_is(house: House, tmp_path: Path) -> None:
    paths = {
        "path/to/tokenizer": "bucket/encoder",
        "path/to/model/to/load": "disk/small",
        "path/to/dataset/to/load": "bucket/affiliations.csv",
    }
    for taken in ("bucket/small", house.far("small")):
        answer = house.post(replace_paths(bodies.TRAIN, {**paths, "path/to/model/to/save": taken}))
        assert answer.status_code == 409
        assert answer.json()["errors"][0]["field"] == "model_save.path"
