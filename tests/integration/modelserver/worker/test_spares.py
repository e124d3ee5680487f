"""Processes that import a framework ahead of the first request, and then take a model."""

import asyncio
import glob
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from mlaas.kernel import landlock
from mlaas.modelserver.cache import Cache
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Request
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker.pool import Pool
from mlaas.modelserver.worker.spares import Spares
from mlaas.modelserver.worker.start import start

MODEL = """
import os
import torch

class Model:
    inputs = [{"name": "path", "datatype": "BYTES", "shape": [1]}]
    outputs = [
        {"name": "pid", "datatype": "INT64", "shape": [1]},
        {"name": "threads", "datatype": "INT64", "shape": [1]},
        {"name": "folder", "datatype": "BYTES", "shape": [1]},
        {"name": "read", "datatype": "BOOL", "shape": [1]},
    ]
    batched = False

    def predict(self, inputs):
        try:
            open(inputs["path"][0].decode()).close()
            read = True
        except PermissionError:
            read = False
        return {"pid": [os.getpid()], "threads": [torch.get_num_threads()], "folder": [os.getcwd()], "read": [read]}
"""
DEPLOYMENT = Deployment(revision="network", trusted=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    return folder


@pytest.fixture
async def spares() -> AsyncIterator[Spares]:
    """One process that waits for a model of torch."""
    made = Spares()
    made.want({"torch"})
    yield made
    made.close()
    assert not made.pids()


async def ask(pool: Pool, path: Path) -> dict[str, object]:
    array = np.array([str(path).encode()], dtype=object)
    response = await pool.infer(Request([Tensor("path", array, "BYTES")]))
    return {tensor.name: tensor.array[0] for tensor in response.outputs}


async def test_it_takes_a_model_and_is_confined_as_any_worker(model: Path, tmp_path: Path, spares: Spares) -> None:
    waiting = spares.pids()["torch"]
    secret = tmp_path / "secret"
    secret.write_text("not the model's")
    pool = await start(DEPLOYMENT, model, spares=spares)
    try:
        found = await ask(pool, secret)
        assert found["pid"] == waiting
        assert found["threads"] == len(os.sched_getaffinity(0))
        assert found["folder"] == str(model).encode()
        assert found["read"] == (not landlock.abi())
        assert (await ask(pool, model / "model.py"))["read"]
    finally:
        await pool.close()


async def test_where_it_has_died_the_model_gets_a_process_of_its_own(model: Path, spares: Spares) -> None:
    waiting = spares.pids()["torch"]
    os.kill(waiting, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, waiting, os.WEXITED | os.WNOWAIT)
    pool = await start(DEPLOYMENT, model, spares=spares)
    try:
        assert (await ask(pool, model / "model.py"))["pid"] != waiting
    finally:
        await pool.close()


async def test_one_waits_for_a_model_at_zero_that_was_found_to_need_it(model: Path, tmp_path: Path) -> None:
    deployment = Deployment(revision="network", trusted=True, source=str(model))
    loading = Loading(Cache(tmp_path / "cache"))
    try:
        await loading.expect([deployment])
        assert loading.waiting() == {}  # whether it will be compiled is not known yet
        pool = await loading.load(deployment)
        assert set(loading.waiting()) == {"torch"}
        again = Loading(Cache(tmp_path / "cache"))
        await again.expect([deployment])
        assert set(again.waiting()) == {"torch"}
        await again.expect([])
        assert again.waiting() == {}
        await pool.close()
    finally:
        loading.close()


async def test_nothing_is_left_of_one_that_is_not_wanted_any_more(spares: Spares) -> None:
    process = spares.pids()["torch"]
    folders = set(glob.glob(f"{tempfile.gettempdir()}/mlaas-worker-{os.getpid()}-*"))
    assert folders
    spares.want(set())
    assert not folders & set(glob.glob(f"{tempfile.gettempdir()}/mlaas-worker-{os.getpid()}-*"))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
