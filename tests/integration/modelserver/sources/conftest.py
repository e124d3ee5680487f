import pytest
from tests.servers.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]


@pytest.fixture(autouse=True)
def no_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
