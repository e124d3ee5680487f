"""Fronts under their parent: real processes on loopback."""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from mlaas.kernel.channel import Channel
from mlaas.kernel.errors import Invalid

_OWN = [("grpc.use_local_subchannel_pool", 1)]  # else all clients of a process share a connection
_PROTOCOL = 'protocol="{}",'
_ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]}


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


class Running:
    """A parent with its fronts, and its administration socket."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, grpc: str, channel: Channel) -> None:
        self.process, self.url, self.grpc, self.channel = process, url, grpc, channel

    async def apply(self, *services: dict[str, Any], **more: Any) -> None:
        await self.channel.ask("apply", table={"services": list(services), **more})

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.channel.ask("status")
        return found

    async def get(self, path: str, body: Any = None) -> tuple[int, Any]:
        return await asyncio.to_thread(_fetch, self.url + path, body)


def _text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def _fetch(url: str, body: Any) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


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


def service(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    predictor = {"revision": folder.name, "source": str(folder), **more.pop("predictor", {})}
    return {"name": name, "predictor": predictor, "access": {"public": True}, **more}


async def test_a_front_killed_9_comes_back_on_the_same_sockets_and_no_connection_is_refused(
    server: Running, iris: Path
) -> None:
    await server.apply(service("iris", iris))
    assert await server.get("/v1/models/iris:predict", _ROWS) == (200, {"predictions": [0, 2]})
    for _ in range(3):
        before = (await server.status())["fronts"][0]["pid"]
        os.kill(before, signal.SIGKILL)
        assert await server.get("/v1/models/iris:predict", _ROWS) == (200, {"predictions": [0, 2]})
    front = (await server.status())["fronts"][0]
    assert front["restarts"] == 3
    assert front["pid"] != before


@pytest.mark.parametrize("server", [3], indirect=True)
async def test_several_fronts_share_the_ports_and_sum_their_statistics(server: Running, iris: Path) -> None:
    await server.apply(service("iris", iris))
    answers = await asyncio.gather(*(server.get("/v1/models/iris:predict", _ROWS) for _ in range(60)))
    assert all(answer == (200, {"predictions": [0, 2]}) for answer in answers)
    counted = [
        sum(each["succeeded"] for _, model, _, _, each in front["requests"] if model == "iris")
        for front in await server.channel.ask("statistics")
    ]
    assert sum(counted) == 60
    assert sum(count > 0 for count in counted) > 1
    status, found = await server.get("/v2/models/iris/stats")
    assert status == 200
    assert found["model_stats"][0]["inference_count"] == 120


@pytest.mark.parametrize("server", [2], indirect=True)
async def test_grpc_statistics_and_metrics_are_those_of_all_fronts_whichever_is_asked(
    server: Running, iris: Path
) -> None:
    await server.apply(service("iris", iris))
    assert (await server.get("/v1/models/iris:predict", _ROWS))[0] == 200

    def ask() -> None:
        """Each client has a connection of its own: the kernel spreads them over the fronts."""
        for _ in range(30):
            with tritonclient.grpc.InferenceServerClient(server.grpc, channel_args=_OWN) as client:
                tensor = tritonclient.grpc.InferInput(client.get_model_metadata("iris").inputs[0].name, [2, 4], "FP64")
                tensor.set_data_from_numpy(np.array(_ROWS["instances"]))
                client.infer("iris", [tensor])

    def counted() -> set[tuple[int, int]]:
        """What 12 askers are told: rows, requests."""
        found = set()
        for _ in range(12):
            with tritonclient.grpc.InferenceServerClient(server.grpc, channel_args=_OWN) as client:
                stats = client.get_inference_statistics("iris").model_stats[0]
                found.add((stats.inference_count, stats.inference_stats.success.count))
        return found

    await asyncio.to_thread(ask)
    fronts = await server.channel.ask("statistics")
    each = [
        sum(found["succeeded"] for *_, protocol, found in front["requests"] if protocol == "grpc") for front in fronts
    ]
    assert sum(each) == 30
    assert min(each) > 0
    assert await asyncio.to_thread(counted) == {(62, 31)}
    labels = 'model="iris",project="default",{}version="1"'
    wanted = {
        f'mlaas_inference_requests_total{{code="200",{labels.format(_PROTOCOL.format("grpc"))}}}': 30.0,
        f'mlaas_inference_requests_total{{code="200",{labels.format(_PROTOCOL.format("v1"))}}}': 1.0,
        f"mlaas_model_replicas{{{labels.format('')}}}": 2.0,
        f"mlaas_model_cold_starts_total{{{labels.format('')}}}": 2.0,
        f"mlaas_model_ready{{{labels.format('')}}}": 1.0,
    }
    for _ in range(12):
        text = await asyncio.to_thread(_text, f"{server.url}/metrics")
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        assert {name: float(values.get(name, "nan")) for name in wanted} == wanted
        assert float(values["mlaas_http_connections"]) >= 1


@pytest.mark.parametrize("server", [2], indirect=True)
async def test_a_load_or_unload_asked_of_one_front_happens_in_all(server: Running, iris: Path) -> None:
    await server.apply(service("iris", iris))
    await server.get("/v1/models/iris:predict", _ROWS)
    assert (await server.get("/v2/repository/models/iris/unload", {}))[0] == 200
    for _ in range(20):
        assert (await server.get("/v1/models/iris:predict", _ROWS))[0] == 503
    assert (await server.get("/v2/repository/models/iris/load", {}))[0] == 200
    for _ in range(20):
        assert (await server.get("/v1/models/iris:predict", _ROWS))[0] == 200


async def test_a_table_that_is_wrong_is_refused_in_words_and_changes_nothing(server: Running, iris: Path) -> None:
    await server.apply(service("iris", iris))
    await server.get("/v1/models/iris:predict", _ROWS)
    with pytest.raises(Invalid, match="unknown field `predictr`"):
        await server.apply({"name": "m", "predictr": {}})
    with pytest.raises(Invalid, match="twice"):
        await server.apply(service("iris", iris), service("iris", iris))
    assert (await server.get("/v1/models/iris:predict", _ROWS))[0] == 200


async def test_a_controlled_server_leaves_loading_to_its_services(server: Running, iris: Path) -> None:
    await server.apply(service("iris", iris), controlled=True)
    status, found = await server.get("/v2/repository/models/iris/unload", {})
    assert status == 403
    assert "change the service 'iris'" in found["error"]


async def test_fronts_end_with_their_parent(server: Running) -> None:
    pid = (await server.status())["fronts"][0]["pid"]
    server.process.kill()
    await server.process.wait()
    until = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}"):  # noqa: ASYNC240
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
