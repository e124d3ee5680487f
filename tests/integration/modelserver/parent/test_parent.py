"""Fronts under their parent: real processes on loopback."""

import asyncio
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tests.integration.modelserver.parent.running import Running, service, text

from mlaas.kernel.errors import Invalid

_OWN = [("grpc.use_local_subchannel_pool", 1)]  # else all clients of a process share a connection
_PROTOCOL = 'protocol="{}",'
_ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]}


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
        found = await asyncio.to_thread(text, f"{server.url}/metrics")
        values = dict(line.rsplit(" ", 1) for line in found.splitlines() if line and line[0] != "#")
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
