from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlaas.modelserver.predictor import Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker.pool import Pool
from mlaas.modelserver.worker.start import start

Serve = Callable[..., Awaitable[Pool]]

SIGNATURE = """
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, -1]}]
"""


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """`await serve(body)`: workers of a custom predictor whose class has this body; closed at the end of the test."""
    pools: list[Pool] = []

    async def begin(body: str, *, name: str = "model", before: str = "", **options: Any) -> Pool:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
        (folder / "model.py").write_text(f"{before}\nclass Model:\n{SIGNATURE}\n{lines}\n")
        given = {key: options.pop(key) for key in ("concurrency", "queue", "logs") if key in options}
        pool = await start(Deployment(revision=name, trusted=True, **options), folder, **given)
        pools.append(pool)
        return pool

    yield begin
    for pool in pools:
        await pool.close()


def ask(*values: float, rows: int = 1, **more: Any) -> Request:
    """A request of one row (or several alike)."""
    return Request([Tensor("x", np.tile(np.array(values, dtype=np.float32), (rows, 1)))], **more)


def told(response: Response) -> Any:
    return response.outputs[0].array.tolist()
