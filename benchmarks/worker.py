"""What a worker process costs beside the model: microseconds of a call that gives its input back, in the front's own process and
through a worker, for one row and for 10,000 x 29 float32 (1.16 MB).

    python benchmarks/worker.py
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uvloop

from mlaas.modelserver.predictor import Request
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker.pool import Pool
from mlaas.modelserver.worker.start import start

MODEL = """
class Model:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 29]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, 29]}]

    def predict(self, inputs):
        return inputs["x"]
"""


async def measure(pool: Pool, rows: int, calls: int) -> tuple[float, float]:
    """(median, fastest) microseconds of a call, one after the other."""
    array = np.ones((rows, 29), dtype=np.float32)
    spent = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        await pool.infer(Request([Tensor("x", array)]))
        spent.append(time.perf_counter_ns() - began)
    return statistics.median(spent) / 1000, min(spent) / 1000


async def throughput(pool: Pool, calls: int, at_once: int) -> float:
    """Calls of one row a second."""
    array = np.ones((1, 29), dtype=np.float32)
    began = time.perf_counter()
    for _ in range(calls // at_once):
        await asyncio.gather(*(pool.infer(Request([Tensor("x", array)])) for _ in range(at_once)))
    return calls / (time.perf_counter() - began)


def copy(rows: int, calls: int) -> float:
    """Microseconds of the two copies that cannot be avoided: into shared memory and, of the answer, out of the model's."""
    array = np.ones((rows, 29), dtype=np.float32)
    target = np.empty_like(array)

    def twice() -> None:
        np.copyto(target, array)
        np.copyto(target, array)

    return fastest(twice, calls)


def fastest(call: Callable[[], None], calls: int) -> float:
    best = float("inf")
    for _ in range(calls):
        began = time.perf_counter_ns()
        call()
        best = min(best, (time.perf_counter_ns() - began) / 1000)
    return best


async def main(folder: Path) -> None:
    began = time.perf_counter()
    pool = await start(Deployment(revision="echo", trusted=True), folder)
    print(f"start of a worker        {(time.perf_counter() - began) * 1000:8.0f} ms")
    for rows, calls in ((1, 3000), (10_000, 500)):
        await measure(pool, rows, 50)
        median, best = await measure(pool, rows, calls)
        print(
            f"{rows:6d} x 29 float32     {median:8.0f} us median {best:8.0f} us best  (two copies: {copy(rows, calls):.0f} us)"
        )
    print(f"one row, 16 at once      {await throughput(pool, 8000, 16):8.0f} calls/s")
    await pool.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.py").write_text(MODEL)
        uvloop.run(main(Path(folder)))
