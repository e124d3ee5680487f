"""Inputs and outputs in S3, against a real server."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from tests.servers.s3 import S3

from mlaas.kernel.blobs import s3 as objects
from mlaas.kernel.blobs.resolve import Resolver
from mlaas.kernel.blobs.tree import tree_hash
from mlaas.kernel.errors import Exists, Forbidden, Invalid
from mlaas.runtimes.commit import check_target, commit, committed
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.taskfile import Input, TaskFile

pytestmark = pytest.mark.timeout(900)  # the first run builds the server


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "cwd"


@pytest.fixture
def client(s3: S3) -> Any:
    return s3.client()


@pytest.fixture
def resolver(s3: S3, tmp_path: Path) -> Resolver:
    return Resolver([tmp_path], tmp_path / "data", s3_bucket=s3.bucket)


def reading(tmp_path: Path, uri: str, digest: str = "") -> TaskFile:
    return TaskFile(
        "u", "n", "p", 1, "predict", {}, inputs={"model": Input(uri, digest)}, cache=str(tmp_path / "cache")
    )


def writing(uri: str, uid: str = "u1", attempt: int = 1) -> TaskFile:
    return TaskFile(uid, "n", "p", attempt, "finetune", {}, outputs={"model_save": uri})


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(os.urandom(100))


def keys(client: Any, bucket: str) -> list[str]:
    return sorted(item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", []))


def test_an_object_and_a_prefix(s3: S3, client: Any, resolver: Resolver, tmp_path: Path) -> None:
    client.put_object(Bucket=s3.bucket, Key="sets/rows ä.csv", Body=b"text,label\n")
    client.put_object(Bucket=s3.bucket, Key="model/config.json", Body=b"{}")
    client.put_object(Bucket=s3.bucket, Key="model/sub/weights", Body=b"w" * 1000)
    client.put_object(Bucket=s3.bucket, Key="models/other", Body=b"a prefix in name only")
    single = resolver.resolve("sets/rows ä.csv", "s3", "dataset.path")
    assert single.uri == f"s3://{s3.bucket}/sets/rows ä.csv"
    place = fetch(reading(tmp_path, *single), "model")
    assert (place.name, place.read_bytes()) == ("rows ä.csv", b"text,label\n")
    folder = resolver.resolve(f"s3://{s3.bucket}/model/", "s3", "model.path")
    place = fetch(reading(tmp_path, *folder), "model")
    found = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    assert found == ["config.json", "sub/weights"]


def test_what_changed_since_is_refused(s3: S3, client: Any, resolver: Resolver, tmp_path: Path) -> None:
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"one")
    found = resolver.resolve("a", "s3", "model.path")
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"two")
    assert resolver.resolve("a", "s3", "model.path").hash != found.hash
    with pytest.raises(Invalid, match="changed") as refused:
        fetch(reading(tmp_path, *found), "model")
    assert refused.value.field == "model"


def test_an_interrupted_download_goes_on(s3: S3, client: Any, resolver: Resolver, tmp_path: Path) -> None:
    data = os.urandom(12 << 20)
    client.put_object(Bucket=s3.bucket, Key="big", Body=data)
    found = resolver.resolve("big", "s3", "model.path")
    whole = reading(tmp_path, *found)
    place = fetch(whole, "model")
    part = next(item for item in objects.listing(found.uri).objects)
    assert place.read_bytes() == data
    # the same state as after a kill half-way: the entry is partial and so is the object
    import hashlib

    entry = place.parent.parent
    tag = hashlib.sha256(part.etag.encode()).hexdigest()[:16]
    place.rename(place.with_name(f".{tag}.part"))
    with place.with_name(f".{tag}.part").open("r+b") as file:
        file.truncate(5 << 20)
        inode = os.fstat(file.fileno()).st_ino
    entry.rename(entry.with_name(entry.name + ".partial"))
    place = fetch(whole, "model")
    assert place.read_bytes() == data
    assert place.stat().st_ino == inode


def _fetch_in_child(tmp_path: Path, uri: str, digest: str) -> None:
    assert fetch(reading(tmp_path, uri, digest), "model").stat().st_size == 4 << 20


def test_concurrent_fetchers_make_one_copy(s3: S3, client: Any, resolver: Resolver, tmp_path: Path) -> None:
    client.put_object(Bucket=s3.bucket, Key="big", Body=os.urandom(4 << 20))
    found = resolver.resolve("big", "s3", "model.path")
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_fetch_in_child, args=(tmp_path, *found)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len([item for item in (tmp_path / "cache" / "inputs").iterdir() if item.is_dir()]) == 1


def test_denied_missing_and_wrong(s3: S3, resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("nothing", "s3://no-such-bucket-here/key"):
        with pytest.raises(Invalid) as missing:
            resolver.resolve(path, "s3", "dataset.path")
        assert missing.value.field == "dataset.path"
    for name, value in s3.stranger().environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Forbidden, match="denies") as denied:
        resolver.resolve("nothing", "s3", "dataset.path")
    assert denied.value.field == "dataset.path"
    assert "AWS_ACCESS_KEY_ID" in (denied.value.hint or "")
    with pytest.raises(Forbidden):
        resolver.resolve_target("new", "s3", "model_save.path")


def test_a_commit_is_whole_and_its_mark_is_last(s3: S3, client: Any, resolver: Resolver, tmp_path: Path) -> None:
    uri = resolver.resolve_target("out/model", "s3", "model_save.path")
    done = commit(writing(uri), "model_save", write)
    assert keys(client, s3.bucket) == ["out/model/.mlaas.json", "out/model/config.json", "out/model/sub/weights"]
    mark = json.loads(client.get_object(Bucket=s3.bucket, Key="out/model/.mlaas.json")["Body"].read())
    assert mark == {"task": "u1", "attempt": 1, "hash": done["hash"]}
    place = fetch(reading(tmp_path, *resolver.resolve("out/model", "s3", "model.path")), "model")
    assert tree_hash(place) == done["hash"]
    assert list(Path().iterdir()) == []
    again = writing(uri, attempt=2)
    assert committed(again, "model_save") == commit(again, "model_save", lambda _: pytest.fail("written twice")) == done
    assert resolver.resolve_target("out/model", "s3", "f", task_uid="u1") == uri
    with pytest.raises(Exists):
        resolver.resolve_target("out/model", "s3", "f", task_uid="u2")
    with pytest.raises(Exists):
        check_target(writing(uri, uid="u2"), "model_save")


def test_existing_objects_are_refused(s3: S3, client: Any) -> None:
    client.put_object(Bucket=s3.bucket, Key="file", Body=b"x")
    client.put_object(Bucket=s3.bucket, Key="folder/file", Body=b"x")
    for key in ("file", "folder"):
        with pytest.raises(Exists):
            check_target(writing(f"s3://{s3.bucket}/{key}"), "model_save")


def test_an_attempt_that_died_is_taken_up_by_its_task_only(s3: S3, client: Any) -> None:
    uri = f"s3://{s3.bucket}/model"
    client.put_object(Bucket=s3.bucket, Key="model/.mlaas-partial.json", Body=b'{"task": "u1", "attempt": 1}')
    client.put_object(Bucket=s3.bucket, Key="model/stale", Body=b"x")
    with pytest.raises(Exists, match="u1"):
        commit(writing(uri, uid="u2"), "model_save", write)
    commit(writing(uri, attempt=2), "model_save", write)
    assert keys(client, s3.bucket) == ["model/.mlaas.json", "model/config.json", "model/sub/weights"]


def test_a_failed_write_leaves_nothing(s3: S3, client: Any) -> None:
    def fails(folder: Path) -> None:
        write(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commit(writing(f"s3://{s3.bucket}/model"), "model_save", fails)
    assert keys(client, s3.bucket) == []
    assert list(Path().iterdir()) == []
