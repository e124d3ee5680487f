"""An open local engine on a temporary folder, with nothing left running afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlaas.engines.contract import ended, until
from mlaas.engines.local.engine import LocalEngine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "admin-token").write_text("mlaas_secret")
    (folder / "blobs").mkdir()
    (folder / "blobs" / "blob").write_text("content")
    (folder / "cache").mkdir()
    return folder


async def finish(engine: LocalEngine) -> None:
    """End everything and close."""
    for seen in await engine.observe():
        if not ended(seen):
            await engine.stop(seen.uid, 0.0, "Cancelled")
            await until(engine, seen.uid, ended)
    await engine.close()


@pytest.fixture
async def engine(data: Path, root: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(data, "here", roots=[root])
    await engine.open()
    yield engine
    await finish(engine)
