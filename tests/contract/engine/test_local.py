"""The engine contract, passed by the local engine in each of its ways: with and without control groups."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlaas.engines.contract import EngineContract, ended, until, workload
from mlaas.engines.local.engine import LocalEngine
from mlaas.kernel.engine import Engine


class TestLocal(EngineContract):
    by_cgroup = True

    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Engine]:
        self.data = tmp_path / "data"
        engine = LocalEngine(self.data, "here", roots=[tmp_path / "root"], limit_by_cgroup=self.by_cgroup)
        await engine.open()
        yield engine
        for seen in await engine.observe():
            if not ended(seen):
                await engine.stop(seen.uid, 0.0, "Cancelled")
                await until(engine, seen.uid, ended)
        await engine.close()

    def source(self, engine: Engine) -> str:
        return (
            "from pathlib import Path\n"
            "from mlaas.engines.local.engine import LocalEngine\n"
            f"engine = LocalEngine(Path({str(self.data)!r}), 'here', limit_by_cgroup={self.by_cgroup})\n"
        )

    async def populate(self, engine: Engine, count: int) -> None:
        task = workload("true", uid="w0")
        await engine.ensure(task, 1)
        await until(engine, "w0", ended)
        work = self.data / "work"
        for number in range(1, count):
            shutil.copytree(work / "w0", work / f"w{number}")
        assert json.loads((work / f"w{count - 1}" / "r0-0" / "attempt-1" / "exit.json").read_text())["code"] == 0


class TestLocalBySampling(TestLocal):
    by_cgroup = False
