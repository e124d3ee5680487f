import pytest
from tests.servers.s3 import S3

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.contract import SweepContract
from mlaas.kernel.blobs.objects import S3Blobs
from mlaas.kernel.errors import Forbidden, Unavailable

pytestmark = pytest.mark.timeout(900)  # the first run builds the server


class TestS3(SweepContract):
    @pytest.fixture
    def blobs(self, s3: S3) -> Blobs:
        return S3Blobs(f"s3://{s3.bucket}/kept/blobs")


def test_keys_that_reach_nothing_are_said(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.stranger().environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Forbidden, match="denies"):
        S3Blobs(f"s3://{s3.bucket}/blobs").put(b"x")


def test_a_wrong_secret_is_said(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Forbidden, match="denies"):
        S3Blobs(f"s3://{s3.bucket}/blobs").put(b"x")


def test_nobody_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="does not answer"):
        S3Blobs("s3://bucket/blobs").put(b"x")
