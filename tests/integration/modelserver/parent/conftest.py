import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.modelserver.parent.running import Running

from mlaas.kernel.channel import Channel


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a logistic regression, as skops."""
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("models") / "iris"
    folder.mkdir()
    rows, labels = load_iris(return_X_y=True)
    skops.io.dump(LogisticRegression(max_iter=500).fit(rows, labels), folder / "model.skops")
    return folder


@pytest.fixture
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    workers = getattr(request, "param", 1)
    admin = tmp_path / "admin.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mlaas.modelserver.parent", "--port", "0", "--grpc-port", "0"),
        *("--workers", str(workers), "--admin", str(admin)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 60
        while not admin.exists():
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        channel = Channel(*await asyncio.open_unix_connection(admin), _nothing)
        await _until_up(channel, workers)
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        yield Running(process, line.split()[2].rstrip(","), f"127.0.0.1:{line.split()[-1]}", channel)
        await channel.close()
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) in (0, -signal.SIGKILL)


async def _nothing(op: str, arguments: dict[str, Any]) -> None:
    """The parent asks nothing of its administrator."""


async def _until_up(channel: Channel, workers: int) -> None:
    """Give the first (empty) table once all fronts are there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            found = await channel.ask("status")
        except Exception:
            await asyncio.sleep(0.05)
            continue
        if len([front for front in found["fronts"] if front["pid"]]) == workers:
            await channel.ask("apply", table={})
            return
    raise AssertionError("the fronts did not start")
