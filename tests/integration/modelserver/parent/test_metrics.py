"""/metrics of a running server: whether Prometheus takes it, and whether it says what happened; the access log."""

import asyncio
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.modelserver.parent.running import Running, model, served, service, text

_OWN = [("grpc.use_local_subchannel_pool", 1)]


async def families(server: Running) -> dict[str, Metric]:
    """The metric families by name, as Prometheus' own parser reads them."""
    found = await asyncio.to_thread(text, f"{server.url}/metrics")
    return {family.name: family for family in text_string_to_metric_families(found)}


def values(family: Metric, suffix: str = "", **labels: str) -> list[float]:
    """The values of samples that have these labels."""
    return [
        sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and labels.items() <= sample.labels.items()
    ]


async def until(server: Running, name: str, holds: Callable[[list[float]], bool], **labels: str) -> None:
    end = time.monotonic() + 30
    while not holds(found := values((await families(server))[name], **labels)):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.02)


def v1(server: Running, name: str, *rows: list[float]) -> int:
    body = json.dumps({"instances": rows}).encode()
    try:
        with urllib.request.urlopen(f"{server.url}/v1/models/{name}:predict", body, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def v2(server: Running, name: str, *rows: list[float]) -> int:
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": rows}
    url = f"{server.url}/v2/models/{name}/infer"
    with urllib.request.urlopen(url, json.dumps({"inputs": [tensor]}).encode(), timeout=60) as answer:
        return int(answer.status)


def grpc(server: Running, name: str, *rows: list[float]) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc, channel_args=_OWN) as client:
        tensor = tritonclient.grpc.InferInput("x", [len(rows), len(rows[0])], "FP32")
        tensor.set_data_from_numpy(np.array(rows, np.float32))
        client.infer(name, [tensor])


async def busy(server: Running, folder: Path) -> None:
    """A model `m` that has been asked over all protocols: 2 rows by each; V1 was refused once and failed once."""
    await server.apply(served("m", model(folder)))
    rows = [[1.0, 1.0], [2.0, 2.0]]
    assert await asyncio.to_thread(v1, server, "m", *rows) == 200
    assert await asyncio.to_thread(v2, server, "m", *rows) == 200
    await asyncio.to_thread(grpc, server, "m", *rows)
    assert await asyncio.to_thread(v1, server, "m", [1.0]) == 400
    assert await asyncio.to_thread(v1, server, "m", [666.0, 1.0]) == 500


async def test_prometheus_takes_every_line(server: Running, tmp_path: Path) -> None:
    await busy(server, tmp_path / "m")
    lines = (await asyncio.to_thread(text, f"{server.url}/metrics")).splitlines()
    for keyword in ("HELP", "TYPE"):
        named = [line.split()[2] for line in lines if line.startswith(f"# {keyword} ")]
        assert len(named) == len(set(named)), "a family is described twice"
        assert all(re.fullmatch(r"mlaas_[a-z0-9_]+", name) for name in named)
    samples = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(samples) == len(set(samples)), "a series is there twice"
    for family in (await families(server)).values():
        assert family.documentation
        for sample in family.samples:
            assert all(re.fullmatch(r"[a-z_]+", name) for name in sample.labels)
            assert sample.value == sample.value  # no NaN
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{family.name}_total"}
        if family.type == "histogram":
            _check_histogram(family)


def _check_histogram(family: Metric) -> None:
    assert re.search(r"_(seconds|size)$", family.name)
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for sample in family.samples:
        key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
    for key, buckets in series.items():
        bounds, counts = zip(*buckets, strict=True)
        assert bounds[-1] == float("inf")
        assert list(bounds) == sorted(set(bounds))
        assert list(counts) == sorted(counts), "counts of buckets are cumulative"
        labels = dict(key)
        assert values(family, "_count", **labels) == [counts[-1]]
        assert len(values(family, "_sum", **labels)) == 1


async def test_counts_errors_and_latencies_are_by_model_version_and_protocol(server: Running, tmp_path: Path) -> None:
    await busy(server, tmp_path / "m")
    found = await families(server)
    where = {"project": "default", "model": "m", "version": "1"}
    requests = found["mlaas_inference_requests"]
    for protocol in ("v1", "v2", "grpc"):
        labels = {**where, "protocol": protocol}
        assert values(requests, "_total", **labels, code="200") == [1]
        assert values(found["mlaas_inference_rows"], "_total", **labels) == [2]
        assert values(found["mlaas_inference_in_flight"], **labels) == [0]
        stages = {}
        for stage in ("queue", "compute", "request"):
            family = found[f"mlaas_inference_{stage}_seconds"]
            assert values(family, "_count", **labels) == [1]
            (stages[stage],) = values(family, "_sum", **labels)
        assert 0 < stages["compute"] <= stages["request"]
        assert stages["queue"] <= stages["request"]
        assert values(found["mlaas_inference_batch_size"], "_sum", **labels) == [2]
        assert values(found["mlaas_inference_batch_size"], "_bucket", **labels, le="2") == [1]
        assert values(found["mlaas_inference_batch_size"], "_bucket", **labels, le="1") == [0]
    assert values(requests, "_total", **where, protocol="v1", code="400") == [1]
    assert values(requests, "_total", **where, protocol="v1", code="500") == [1]
    for name, value in {"ready": 1.0, "replicas": 1.0, "cold_starts": 1.0, "restarts": 0.0}.items():
        family = found[f"mlaas_model_{name}"]
        assert values(family, "_total" if family.type == "counter" else "", **where) == [value]
    assert values(found["mlaas_model_memory_bytes"], **where)[0] > 1 << 20  # a process
    assert values(found["mlaas_http_connections"])[0] >= 1
    assert len(values(found["mlaas_grpc_connections"])) == 1


async def test_what_waits_shows_as_in_flight_and_then_as_queue_time(server: Running, tmp_path: Path) -> None:
    await server.apply(served("m", model(tmp_path / "m"), batcher={"max_batch_size": 1}))
    await asyncio.to_thread(v1, server, "m", [1.0, 1.0])
    asked = [asyncio.create_task(asyncio.to_thread(v1, server, "m", [1000.0, 1.0])) for _ in range(3)]
    await until(server, "mlaas_inference_in_flight", lambda found: found == [3.0], model="m", protocol="v1")
    assert await asyncio.gather(*asked) == [200, 200, 200]
    found = await families(server)
    labels = {"model": "m", "protocol": "v1"}
    assert values(found["mlaas_inference_in_flight"], **labels) == [0]
    (queue,) = values(found["mlaas_inference_queue_seconds"], "_sum", **labels)
    (compute,) = values(found["mlaas_inference_compute_seconds"], "_sum", **labels)
    (total,) = values(found["mlaas_inference_request_seconds"], "_sum", **labels)
    assert queue > 1.0  # 0.4 s and 0.8 s
    assert compute > 1.1
    assert total == pytest.approx(queue + compute, rel=0.1)


async def test_cold_starts_unloading_and_restarts_are_counted(server: Running, tmp_path: Path) -> None:
    scaling = {"min_replicas": 0, "idle_timeout": 0.5}
    await server.apply(served("m", model(tmp_path / "m"), scaling=scaling))
    assert values((await families(server))["mlaas_model_replicas"], model="m") == [0]
    for count in (1.0, 2.0):
        assert await asyncio.to_thread(v1, server, "m", [1.0, 1.0]) == 200
        assert values((await families(server))["mlaas_model_cold_starts"], "_total", model="m") == [count]
        assert values((await families(server))["mlaas_model_replicas"], model="m") == [1]
        await until(server, "mlaas_model_replicas", lambda found: found == [0.0], model="m")
    await server.apply(served("m", tmp_path / "m"))
    await until(server, "mlaas_model_replicas", lambda found: found == [1.0], model="m")
    unit: Any = (await server.status())["services"][0]["units"][0]
    os.kill(unit["workers"][0]["pid"], signal.SIGKILL)
    end = time.monotonic() + 30
    while values((await families(server))["mlaas_model_restarts"], "_total", model="m") != [1.0]:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    await until(server, "mlaas_model_replicas", lambda found: found == [1.0], model="m")


@pytest.mark.parametrize("switched", [True, False])
async def test_the_access_log_has_a_line_for_each_request_of_both_protocols_when_it_is_on(
    iris: Path, tmp_path: Path, switched: bool
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mlaas", "serve", str(iris), "--port", "0", "--grpc-port", "0"),
        *(["--access-log"] if switched else []),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        said = ""
        while not (match := re.search(r"Serving at (\S+), gRPC at port (\d+)", said)):
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            assert line, said
            said += line
        url, port = match[1], match[2]

        def ask() -> None:
            headers = {"authorization": "Bearer hush", "content-type": "application/json"}
            body = b'{"instances": [[1, 2, 3, 4]]}'
            with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/models/iris:predict", body, headers)):
                pass
            with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}", channel_args=_OWN) as client:
                client.is_server_live(headers={"authorization": "Bearer hush"})
                with pytest.raises(tritonclient.utils.InferenceServerException):
                    client.get_model_metadata("nope")

        await asyncio.to_thread(ask)
    finally:
        process.terminate()
        said = (await process.stderr.read()).decode()
        await process.wait()
    lines = [line for line in said.splitlines() if line.startswith("127.0.0.1 ")]
    assert len(lines) == (3 if switched else 0)
    if switched:
        stamp = r"127\.0\.0\.1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
        assert re.fullmatch(rf'{stamp} "POST /v1/models/iris:predict" 200 \d+ 0\.\d+', lines[0])
        service_path = "/inference.GRPCInferenceService"
        assert re.fullmatch(rf'{stamp} "GRPC {service_path}/ServerLive" OK - 0\.\d+', lines[1])
        assert re.fullmatch(rf'{stamp} "GRPC {service_path}/ModelMetadata" NOT_FOUND - 0\.\d+', lines[2])
    assert "hush" not in said


async def test_a_service_that_goes_takes_its_series_along(server: Running, iris: Path) -> None:
    await server.apply(service("iris", iris), service("other", iris))
    assert {sample.labels["model"] for sample in (await families(server))["mlaas_model_ready"].samples} == {
        "iris",
        "other",
    }
    await server.apply(service("iris", iris))
    assert {sample.labels["model"] for sample in (await families(server))["mlaas_model_ready"].samples} == {"iris"}
