"""Mixed traffic at a served platform while things die: no wrong answer, no lost request, memory flat.

Good and bad requests over V1, V2 and gRPC, and cut connections, while a worker is killed with -9 every five seconds, canaries
change, services come and go, and a model at zero is loaded and unloaded again and again. A request that was in a killed worker is
answered 503 with Retry-After; every other one is answered, and answered right.

`MLAAS_SOAK_SECONDS` says how long (60 by default; 600 for the full soak)."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from tests.platform import Platform

SECONDS = float(os.environ.get("MLAAS_SOAK_SECONDS", "60"))
CLIENTS = 8
_MIB = 1 << 20

_CUSTOM = """
class Model:
    inputs = [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]
    outputs = [{"name": "y", "datatype": "FP64", "shape": [-1]}]

    def predict(self, inputs):
        return inputs["x"].sum(axis=1)
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    made = Platform(tmp_path_factory.mktemp("soak"), MLAAS_WARM="0")
    rows, labels = load_iris(return_X_y=True)
    for name, shift in (("one", 0), ("two", 10)):
        (made.files / name).mkdir()
        skops.io.dump(LogisticRegression(max_iter=500).fit(rows, labels + shift), made.files / name / "model.skops")
    (made.files / "custom").mkdir()
    (made.files / "custom" / "model.py").write_text(_CUSTOM)
    with made:
        yield made


class Soak:
    """The traffic and its verdicts. `seen` counts (what was asked, what came back)."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.base = f"http://127.0.0.1:{platform.inference_port}"
        self.seen: Counter[tuple[str, int | str]] = Counter()
        self.wrong: list[str] = []
        self.until = time.monotonic() + SECONDS
        self.killed = 0
        self.memory: list[tuple[float, int]] = []  # (seconds, resident bytes of the model server without its workers)
        self.loads = 0  # cold starts of the model at zero

    async def client(self, number: int) -> None:
        """One client: a random request after the other."""
        chance = random.Random(number)
        async with httpx2.AsyncClient(timeout=60) as http:
            while time.monotonic() < self.until:
                await chance.choice([self.good, self.good, self.v2, self.custom, self.custom, self.bad, self.cut])(
                    http, chance
                )

    async def good(self, http: Any, chance: random.Random) -> None:
        answer = await self._post(http, "good", "/v1/models/iris:predict", {"instances": [[5.1, 3.5, 1.4, 0.2]]})
        if answer is not None and answer.status_code == 200 and answer.json()["predictions"][0] not in (0, 10):
            self.wrong.append(f"iris said {answer.text}")

    async def v2(self, http: Any, chance: random.Random) -> None:
        rows = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]] * chance.randint(1, 20)
        tensor = {"name": "x", "datatype": "FP64", "shape": [len(rows), 4], "data": rows}
        answer = await self._post(http, "v2", "/v2/models/steady/infer", {"id": "a", "inputs": [tensor]})
        if answer is not None and answer.status_code == 200:
            found = answer.json()
            if found["outputs"][0]["data"] != [0, 2] * (len(rows) // 2) or found["id"] != "a":
                self.wrong.append(f"steady said {answer.text[:300]}")

    async def custom(self, http: Any, chance: random.Random) -> None:
        rows = [[chance.random(), chance.random()] for _ in range(chance.randint(1, 5))]
        answer = await self._post(http, "custom", "/v1/models/custom:predict", {"instances": rows})
        if answer is not None and answer.status_code == 200:
            if any(abs(sum(row) - value) > 1e-9 for row, value in zip(rows, answer.json()["predictions"], strict=True)):
                self.wrong.append(f"custom said {answer.text[:300]} for {rows}")
        elif answer is not None and "retry-after" not in answer.headers:
            self.wrong.append(f"custom: {answer.status_code} without Retry-After: {answer.text[:300]}")

    async def grpc(self, number: int) -> None:
        """One client over gRPC: rows of the same model, and rows of a wrong width."""
        from tritonclient.grpc import InferInput
        from tritonclient.grpc.aio import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        chance = random.Random(number)
        async with InferenceServerClient(f"127.0.0.1:{self.platform.grpc_port}") as client:
            while time.monotonic() < self.until:
                rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]] * chance.randint(1, 20))
                wrong = chance.random() < 0.2
                tensor = InferInput("input-0", [len(rows), 3 if wrong else 4], "FP64")
                tensor.set_data_from_numpy(rows[:, :3] if wrong else rows)
                try:
                    answer = await client.infer("steady", [tensor])
                except InferenceServerException as error:
                    self.seen["grpc", str(error.status())] += 1
                    if not wrong or error.status() != "StatusCode.INVALID_ARGUMENT":
                        self.wrong.append(f"grpc: {error}")
                    continue
                self.seen["grpc", "OK"] += 1
                if wrong or answer.as_numpy("predict").tolist() != [0, 2] * (len(rows) // 2):
                    self.wrong.append(f"grpc: steady said {answer.as_numpy('predict')}")

    async def sleepy(self) -> None:
        """Asks a model at zero now and then, when it has been unloaded again: it is loaded, and the request is answered."""
        async with httpx2.AsyncClient(timeout=60) as http:
            while time.monotonic() < self.until:
                answer = await self._post(http, "sleepy", "/v1/models/sleepy:predict", {"instances": [[1.0, 2.0]]})
                if answer is not None and answer.status_code == 200 and answer.json()["predictions"] != [3.0]:
                    self.wrong.append(f"sleepy said {answer.text[:300]}")
                await asyncio.sleep(3)

    async def bad(self, http: Any, chance: random.Random) -> None:
        body = chance.choice(
            [b"{", b'{"instances": [[1]]}', b'{"instances": 3}', b"\xff\xfe", b'{"instances": [["x"]]}']
        )
        answer = await http.post(f"{self.base}/v1/models/steady:predict", content=body)
        self.seen["bad", answer.status_code] += 1
        if answer.status_code != 400 or "error" not in answer.json():
            self.wrong.append(f"{body!r} was answered {answer.status_code} {answer.text[:300]}")

    async def cut(self, http: Any, chance: random.Random) -> None:
        """A connection that ends in the middle of a request."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.platform.inference_port)
            head = b"POST /v1/models/steady:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
            writer.write(head[: chance.randint(1, len(head))])
            await writer.drain()
            writer.close()
            self.seen["cut", "sent"] += 1
        except OSError as error:
            self.wrong.append(f"a connection was refused: {error}")

    async def _post(self, http: Any, what: str, path: str, body: Any) -> Any:
        try:
            answer = await http.post(self.base + path, json=body)
        except httpx2.HTTPError as error:
            self.seen[what, type(error).__name__] += 1
            self.wrong.append(f"{what}: {type(error).__name__} {error}")
            return None
        self.seen[what, answer.status_code] += 1
        if answer.status_code not in (200, 503):
            self.wrong.append(f"{what}: {answer.status_code} {answer.text[:300]}")
        if answer.status_code == 503 and (what not in ("custom", "sleepy") or "retry-after" not in answer.headers):
            self.wrong.append(f"{what}: 503 {answer.text[:300]}")
        return answer

    async def killer(self) -> None:
        """Kill a worker every five seconds."""
        while time.monotonic() < self.until:
            await asyncio.sleep(5)
            workers = [
                each for each in _server(self.platform.data) if "mlaas.modelserver.worker" in each.info["cmdline"]
            ]
            for process in workers[:1]:
                process.send_signal(signal.SIGKILL)
                self.killed += 1

    async def operator(self) -> None:
        """Change canaries, make and delete services."""
        headers = {"authorization": f"Bearer {self.platform.token}"}
        chance = random.Random(99)
        url = f"{self.platform.url}/api/v1/projects/default/services"
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            while time.monotonic() < self.until:
                rollout = {"canary_traffic_percent": chance.choice([0, 10, 50, 90, None])}
                model = chance.choice(["one", "two"])
                change = {"spec": {"predictor": {"model": model}, "rollout": rollout}}
                answer = await http.patch(
                    f"{url}/iris", json=change, headers={"content-type": "application/merge-patch+json"}
                )
                self.seen["patch", answer.status_code] += 1
                spec = {"predictor": {"model": model}, "access": "public"}
                made = await http.post(url, json={"kind": "service", "meta": {"name": "passing"}, "spec": spec})
                self.seen["make", made.status_code] += 1
                await asyncio.sleep(1.5)
                gone = await http.delete(f"{url}/passing")
                self.seen["delete", gone.status_code] += 1
                await asyncio.sleep(1.0)

    async def weigh(self) -> None:
        """Resident memory of the front and its parent, every two seconds."""
        began = time.monotonic()
        while time.monotonic() < self.until:
            await asyncio.sleep(2)
            found = [each for each in _server(self.platform.data) if _own(each.info["cmdline"])]
            with contextlib.suppress(psutil.Error):
                self.memory.append((time.monotonic() - began, sum(each.memory_info().rss for each in found)))


def _own(command: list[str]) -> bool:
    return "mlaas.modelserver.front" in command or "mlaas.modelserver.parent" in command


def _server(data: Path) -> Iterator[Any]:
    """The processes of this platform's model server: parent, fronts, workers."""
    for process in psutil.process_iter(["cmdline"]):
        try:
            if "mlaas.modelserver.parent" not in (process.info["cmdline"] or []):
                continue
            if not process.environ().get("MLAAS_CACHE", "").startswith(str(data)):
                continue
            yield process
            for child in process.children(recursive=True):
                child.info = {"cmdline": child.cmdline()}
                yield child
        except psutil.Error:
            continue


def _slope(memory: list[tuple[float, int]]) -> float:
    """Bytes a minute by least squares, over the second half: the first one fills caches."""
    half = memory[len(memory) // 2 :]
    seconds, sizes = np.array(half, dtype=np.float64).T
    return float(np.polyfit(seconds, sizes, 1)[0] * 60)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_mixed_traffic_while_workers_are_killed(platform: Platform) -> None:
    with platform.client() as client:
        for name, model, more in (
            ("iris", "one", {}),
            ("steady", "one", {}),
            ("custom", "custom", {"predictor": {"trusted": True}}),
            (
                "sleepy",
                "custom",
                {"predictor": {"trusted": True}, "scaling": {"min_replicas": 0, "idle_timeout": 1.0}},
            ),
        ):
            spec = {**more, "predictor": {"model": model, **more.get("predictor", {})}, "access": "public"}
            client.create("services", {"kind": "service", "meta": {"name": name}, "spec": spec})
        end = time.monotonic() + 120
        for name in ("iris", "steady", "custom", "sleepy"):
            while client.get("services", name)["status"]["phase"] != "Ready":
                assert time.monotonic() < end, client.get("services", name)["status"]
                time.sleep(0.1)
    soak = Soak(platform)

    async def run() -> None:
        clients = [soak.client(number) for number in range(CLIENTS)]
        others = (
            soak.killer(),
            soak.operator(),
            soak.weigh(),
            soak.sleepy(),
            *(soak.grpc(number) for number in (90, 91)),
        )
        await asyncio.gather(*clients, *others)
        async with httpx2.AsyncClient(timeout=60) as http:
            soak.loads = _loads((await http.get(f"{soak.base}/metrics")).text)

    asyncio.run(run())
    sizes = [size for _, size in soak.memory]
    quarter = max(1, len(sizes) // 4)
    early, late = sum(sizes[quarter : 2 * quarter]) / quarter, sum(sizes[-quarter:]) / quarter
    crashed = soak.seen["custom", 503] + soak.seen["sleepy", 503]
    print(
        f"\n{sum(soak.seen.values())} requests in {SECONDS:g} s, {len(soak.wrong)} wrong or lost, {soak.killed} workers"
        f" killed, {crashed} answered 503 with Retry-After, {soak.loads} loads of the model at zero;"
        f" resident MiB {sizes[0] / _MIB:.1f} at the start, {early / _MIB:.1f} in the second quarter,"
        f" {late / _MIB:.1f} in the last, {_slope(soak.memory) / _MIB:+.2f} a minute in the second half\n{dict(soak.seen)}"
    )
    assert not soak.wrong, soak.wrong[:20]
    assert soak.killed >= SECONDS // 15
    assert soak.loads >= SECONDS // 20
    assert soak.seen["grpc", "OK"] > 0
    assert soak.seen["custom", 200] > 20 * soak.seen["custom", 503]
    assert crashed <= 8 * soak.killed  # a request is lost with its worker only
    assert late < early * 1.05 + 8 * _MIB, (early, late)


def _loads(text: str) -> int:
    """The cold starts of `sleepy` that the metrics tell."""
    from prometheus_client.parser import text_string_to_metric_families

    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "mlaas_model_cold_starts_total" and sample.labels["model"] == "sleepy"
    )
