"""Dynamic batching in a running server: one batch of requests of all protocols and clients."""

import asyncio
import contextlib
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.modelserver.parent.running import Running, model, served, text


class Asker:
    """One client of each protocol; `(y, rows of the call)`, or the status and message of an error."""

    def __init__(self, server: Running, name: str) -> None:
        self.url, self.grpc, self.name = server.url, server.grpc, name

    def v1(self, value: float) -> Any:
        body = json.dumps({"instances": [[value, 1]]}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models/{self.name}:predict", body, timeout=60) as answer:
                (row,) = json.loads(answer.read())["predictions"]
                return row["y"], row["rows"]
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]

    def v2(self, value: float) -> Any:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [value, 1]}
        body = json.dumps({"id": "one", "inputs": [tensor]}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/v2/models/{self.name}/infer", body, timeout=60) as answer:
                outputs = json.loads(answer.read())["outputs"]
                return outputs[0]["data"][0], outputs[1]["data"][0]
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]

    def binary(self, value: float) -> Any:
        with tritonclient.http.InferenceServerClient(self.url.removeprefix("http://")) as client:
            tensor = tritonclient.http.InferInput("x", [1, 2], "FP32")
            tensor.set_data_from_numpy(np.array([[value, 1]], np.float32))
            try:
                found = client.infer(self.name, [tensor])
            except tritonclient.utils.InferenceServerException as error:
                return error.status(), error.message()
            return float(found.as_numpy("y")[0]), int(found.as_numpy("rows")[0])

    def rpc(self, value: float) -> Any:
        channel = [("grpc.use_local_subchannel_pool", 1)]
        with tritonclient.grpc.InferenceServerClient(self.grpc, channel_args=channel) as client:
            tensor = tritonclient.grpc.InferInput("x", [1, 2], "FP32")
            tensor.set_data_from_numpy(np.array([[value, 1]], np.float32))
            outputs = [tritonclient.grpc.InferRequestedOutput(name) for name in ("y", "rows", "pid")]
            try:
                found = client.infer(self.name, [tensor], outputs=outputs)
            except tritonclient.utils.InferenceServerException as error:
                return error.status(), error.message()
            return float(found.as_numpy("y")[0]), int(found.as_numpy("rows")[0])

    @property
    def all(self) -> list[Any]:
        return [self.v1, self.v2, self.binary, self.rpc]


def together(asker: Asker, values: list[float]) -> list[Any]:
    """What clients of all protocols in turn are answered whose requests come while the model works on another one."""
    with ThreadPoolExecutor(len(values) + 1) as pool:
        busy: Future[Any] = pool.submit(asker.v1, 1000)
        time.sleep(0.1)  # it takes 0.4 s
        asked = [pool.submit(asker.all[place % 4], value) for place, value in enumerate(values)]
        found = [future.result(60) for future in asked]
        assert busy.result(60)[0] == 2000
    return found


async def batches(server: Running, name: str) -> dict[str, float]:
    """Protocol -> executions, and `rows` executed, of the batch size histogram."""
    found: dict[str, float] = {"rows": 0}
    families = text_string_to_metric_families(await asyncio.to_thread(text, f"{server.url}/metrics"))
    for family in families:
        if family.name == "mlaas_inference_batch_size":
            for sample in family.samples:
                if sample.labels["model"] == name and sample.name.endswith("_count"):
                    found[sample.labels["protocol"]] = sample.value
                if sample.labels["model"] == name and sample.name.endswith("_sum"):
                    found["rows"] += sample.value
    return found


async def test_requests_of_v1_v2_and_grpc_clients_share_one_call_with_the_answers_of_single_ones(
    server: Running, tmp_path: Path
) -> None:
    await server.apply(served("mixed", model(tmp_path / "mixed")))
    asker = Asker(server, "mixed")
    alone = [await asyncio.to_thread(ask, value) for value, ask in enumerate(asker.all)]
    assert alone == [(2.0 * value, 1) for value in range(4)]
    before = await batches(server, "mixed")
    assert await asyncio.to_thread(together, asker, [*range(12)]) == [(2.0 * value, 12) for value in range(12)]
    after = await batches(server, "mixed")
    assert after["rows"] - before["rows"] == 13
    protocols = ("v1", "v2", "grpc")
    assert sum(after[each] - before[each] for each in protocols) == 2  # the busy one, and the batch


async def test_a_bad_row_fails_its_own_request_only_whatever_protocol_it_came_by(
    server: Running, tmp_path: Path
) -> None:
    await server.apply(served("bad", model(tmp_path / "bad")))
    asker = Asker(server, "bad")
    for place in range(4):
        values: list[float] = [*range(8)]
        values[place] = 666
        answers = await asyncio.to_thread(together, asker, values)
        status, message = answers.pop(place)
        assert str(status) in ("500", "StatusCode.INTERNAL")
        assert "this row is bad" in message
        del values[place]
        assert [answer[0] for answer in answers] == [2 * value for value in values]
        assert max(answer[1] for answer in answers) > 1  # the others are not all tried one by one


async def test_a_batch_has_no_more_rows_than_allowed_and_is_held_open_no_longer_than_said(
    server: Running, tmp_path: Path
) -> None:
    await server.apply(
        served("bounded", model(tmp_path / "bounded"), batcher={"max_batch_size": 5, "max_latency": 600})
    )
    asker = Asker(server, "bounded")
    await asyncio.to_thread(asker.v1, 1)  # loads it

    def timed(count: int) -> tuple[list[Any], float]:
        begin = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            found = list(pool.map(lambda place: asker.all[place % 4](place), range(count)))
        return found, time.monotonic() - begin

    found, seconds = await asyncio.to_thread(timed, 3)
    assert found == [(2.0 * value, 3) for value in range(3)]
    assert 0.6 <= seconds < 1.2
    found, seconds = await asyncio.to_thread(timed, 5)
    assert found == [(2.0 * value, 5) for value in range(5)]
    assert seconds < 0.6  # full: not held open
    found, _ = await asyncio.to_thread(timed, 12)
    assert [answer[0] for answer in found] == [2.0 * value for value in range(12)]
    assert max(answer[1] for answer in found) == 5


async def test_replicas_follow_the_requests_that_wait_in_batches_and_all_of_them_work(
    server: Running, tmp_path: Path
) -> None:
    scaling = {"min_replicas": 1, "max_replicas": 3, "scale_target": 4, "stable_window": 6, "panic_window": 1}
    await server.apply(served("wide", model(tmp_path / "wide", 0.1), scaling=scaling, batcher={"max_batch_size": 2}))
    url = f"{server.url}/v1/models/wide:predict"
    body = json.dumps({"instances": [[3, 1]]}).encode()
    seen: set[int] = set()
    ending = False

    def ask() -> None:
        while not ending:
            with urllib.request.urlopen(url, body, timeout=60) as answer:
                seen.add(json.loads(answer.read())["predictions"][0]["pid"])

    tasks = [asyncio.create_task(asyncio.to_thread(ask)) for _ in range(20)]
    try:
        async with asyncio.timeout(60):
            while len(seen) < 3:  # noqa: ASYNC110 - threads fill it
                await asyncio.sleep(0.1)
    finally:
        ending = True
        with contextlib.suppress(urllib.error.URLError):
            await asyncio.gather(*tasks)

    async def workers() -> int:
        unit = (await server.status())["services"][0]["units"][0]
        return len([worker for worker in unit["workers"] if worker["state"] == "ready"])

    async with asyncio.timeout(60):
        while await workers() > 1:  # noqa: ASYNC110 - asked of another process
            await asyncio.sleep(0.2)


@pytest.mark.parametrize(("limit", "most"), [(0, 12), (3, 3)])
async def test_calls_of_a_coroutine_overlap_up_to_the_replicas_limit(
    server: Running, tmp_path: Path, limit: int, most: int
) -> None:
    folder = tmp_path / "later"
    folder.mkdir()
    (folder / "model.py").write_text(
        "import asyncio\n\n\nclass Model:\n"
        '    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]\n'
        '    outputs = [{"name": "y", "datatype": "INT32", "shape": [-1]}]\n    now = most = 0\n\n'
        "    async def predict(self, inputs):\n"
        "        self.now += 1\n        self.most = max(self.most, self.now)\n        await asyncio.sleep(0.3)\n"
        "        self.now -= 1\n        return [self.most] * len(inputs['x'])\n"
    )
    await server.apply(served("later", folder, scaling={"container_concurrency": limit}))
    url = f"{server.url}/v1/models/later:predict"

    def ask(_: int) -> int:
        with urllib.request.urlopen(url, b'{"instances": [[1]]}', timeout=60) as answer:
            return int(json.loads(answer.read())["predictions"][0])

    def many() -> list[int]:
        with ThreadPoolExecutor(12) as pool:
            return list(pool.map(ask, range(12)))

    await asyncio.to_thread(ask, 0)
    assert max(await asyncio.to_thread(many)) == most
