"""Folders, files and archives of a real S3 server."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.servers.s3 import S3

from mlaas.kernel.errors import Error, Forbidden, Invalid, Unavailable
from mlaas.modelserver.sources.fetch import locate


def put(s3: S3, **objects: bytes) -> None:
    client: Any = s3.client()
    for key, body in objects.items():
        client.put_object(Bucket=s3.bucket, Key=key.replace("__", "/"), Body=body)


def test_a_folder_and_a_file_are_fetched_once(s3: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(s3, models__iris__a=b"x" * 2500, models__iris__b__c=b"yy", models__boston=b"zzz")
    folder = locate(f"s3://{s3.bucket}/models/iris", tmp_path)
    assert folder.name == "iris"
    assert (folder.path / "b" / "c").read_bytes() == b"yy"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"Fetching s3://{s3.bucket}/models/iris (2.5 kB)"
    assert said[1].startswith(f"Fetched s3://{s3.bucket}/models/iris: 2.5 kB in ")
    assert locate(f"s3://{s3.bucket}/models/iris/", tmp_path).name == "iris"
    file = locate(f"s3://{s3.bucket}/models/boston", tmp_path)
    assert (file.name, file.path.read_bytes()) == ("boston", b"zzz")
    capsys.readouterr()
    assert locate(f"s3://{s3.bucket}/models/iris", tmp_path) == folder
    assert capsys.readouterr().err == ""
    put(s3, models__iris__a=b"new")
    changed = locate(f"s3://{s3.bucket}/models/iris", tmp_path)
    assert (changed.path / "a").read_bytes() == b"new"
    assert (folder.path / "a").read_bytes() == b"x" * 2500  # what is served does not change under it


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("{bucket}/nothing", Invalid, "There is nothing at s3://"),
        ("no-such-bucket-here/iris", Invalid, "There is no bucket for s3://no-such-bucket-here/iris"),
        ("{bucket}", Invalid, "is no S3 address"),
        ("UPPER/iris", Invalid, "is no name that S3 takes"),
    ],
)
def test_what_is_not_there_is_said(s3: S3, tmp_path: Path, place: str, error: type[Error], words: str) -> None:
    with pytest.raises(error, match=words) as refused:
        locate(f"s3://{place.format(bucket=s3.bucket)}", tmp_path)
    assert "platform" not in str(refused.value.message)


def test_keys_that_are_wrong_or_missing_are_said(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, iris=b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Forbidden, match="S3 denies access") as refused:
        locate(f"s3://{s3.bucket}/iris", tmp_path)
    assert "AWS_SECRET_ACCESS_KEY" in (refused.value.hint or "")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Forbidden, match="There are no keys for S3") as refused:
        locate(f"s3://{s3.bucket}/iris", tmp_path)
    assert refused.value.field == "source"


def test_what_was_fetched_is_served_while_s3_is_away(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(s3, models__iris__a=b"1")
    found = locate(f"s3://{s3.bucket}/models/iris", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert locate(f"s3://{s3.bucket}/models/iris", tmp_path) == found
    assert "What was fetched before is served." in capsys.readouterr().err
    shutil.rmtree(tmp_path / "inputs")
    with pytest.raises(Unavailable, match="S3 does not answer"):
        locate(f"s3://{s3.bucket}/models/iris", tmp_path)
