"""Payload logs of a running model server: what every protocol's clients send, and a sink that does not take it."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.integration.modelserver.parent.running import Running, service, text
from tests.servers.sink import EventSink

_ROW = [5.1, 3.5, 1.4, 0.2]
_V1 = json.dumps({"instances": [_ROW]}).encode()


@pytest.fixture
def sink() -> Iterator[EventSink]:
    with EventSink() as made:
        yield made


async def counted(server: Running) -> dict[str, float]:
    """The metrics of payload logs, without their labels of project and model."""
    found = {}
    for line in (await asyncio.to_thread(text, f"{server.url}/metrics")).splitlines():
        if line.startswith("mlaas_payload_events"):
            name, value = line.rsplit(" ", 1)
            assert 'model="iris"' in name
            found[name.partition('outcome="')[2].partition('"')[0] or "waiting"] = float(value)
    return found


async def until_sent(server: Running, count: int) -> dict[str, float]:
    """The metrics once so many events have been sent."""
    end = time.monotonic() + 30
    while (found := await counted(server)).get("sent", 0) < count:
        assert time.monotonic() < end, (found, await server.status())
        await asyncio.sleep(0.05)
    return found


def post(url: str, body: bytes = _V1, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, body, sent), timeout=60) as answer:
        return json.loads(answer.read())


async def test_v1_v2_binary_and_grpc_requests_are_logged_alike_and_no_credential_is(
    server: Running, iris: Path, sink: EventSink
) -> None:
    await server.apply(service("iris", iris, logger={"url": sink.url, "metadata": {"team": "cms"}}))

    def ask() -> None:
        url = f"{server.url}/v1/models/iris:predict"
        post(url, ce_id="v1", ce_source="test", ce_type="test", ce_specversion="1.0", authorization="Bearer hush-1")
        with tritonclient.http.InferenceServerClient(server.url.removeprefix("http://")) as http:
            given = tritonclient.http.InferInput(http.get_model_metadata("iris")["inputs"][0]["name"], [1, 4], "FP64")
            given.set_data_from_numpy(np.array([_ROW]), binary_data=True)
            http.infer("iris", [given], request_id="v2", headers={"Authorization": "Bearer hush-2"})
            name = given.name()
        with tritonclient.grpc.InferenceServerClient(server.grpc) as grpc:
            tensor = tritonclient.grpc.InferInput(name, [1, 4], "FP64")
            tensor.set_data_from_numpy(np.array([_ROW]))
            grpc.infer("iris", [tensor], request_id="grpc", headers={"authorization": "Bearer hush-3"})

    await asyncio.to_thread(ask)
    assert await until_sent(server, 6) == {"sent": 6, "dropped": 0, "failed": 0, "waiting": 0}
    asked = {event.attributes["id"]: event for event in sink.of("request")}
    answered = {event.attributes["id"]: event for event in sink.of("response")}
    assert asked.keys() == answered.keys() == {"v1", "v2", "grpc"}
    assert (asked["v1"].data, answered["v1"].data) == ({"instances": [_ROW]}, {"predictions": [0]})
    for name in ("v2", "grpc"):
        assert (asked[name].data["inputs"][0]["data"], asked[name].data["inputs"][0]["shape"]) == (_ROW, [1, 4])
        assert answered[name].data["outputs"][0]["data"] == [0]
        assert answered[name].data["id"] == name
    for event in sink.events:
        assert event.attributes["inferenceservicename"] == "iris"
        assert event.attributes["annotations"] == '{"team":"cms"}'
        assert "hush" not in f"{event.headers} {event.body!r}"
    log = (await server.status())["services"][0]["logger"]
    assert log == {"url": sink.url, "waiting": 0, "sent": 6, "dropped": 0, "failed": 0}


async def test_a_sink_that_says_nothing_neither_slows_requests_nor_takes_memory(
    server: Running, iris: Path, sink: EventSink
) -> None:
    url = f"{server.url}/v1/models/iris:predict"

    def many(count: int) -> float:
        """The median time of a request, in seconds, over one kept connection."""
        import http.client

        connection = http.client.HTTPConnection(url.split("/")[2], timeout=60)
        taken = []
        for _ in range(count):
            begin = time.perf_counter()
            connection.request("POST", "/v1/models/iris:predict", _V1)
            connection.getresponse().read()
            taken.append(time.perf_counter() - begin)
        connection.close()
        return sorted(taken)[count // 2]

    await server.apply(service("iris", iris))
    await asyncio.to_thread(many, 500)
    plain = await asyncio.to_thread(many, 500)
    sink.open.clear()
    await server.apply(service("iris", iris, logger={"url": sink.url}))
    await asyncio.to_thread(many, 1000)  # fills the queue
    full = await counted(server)
    assert full["waiting"] == 1000
    front = psutil.Process((await server.status())["fronts"][0]["pid"])
    before = front.memory_info().rss
    logged = await asyncio.to_thread(many, 4000)
    assert logged < 3 * plain + 0.001
    assert front.memory_info().rss - before < 4 << 20
    found = await counted(server)
    assert found["dropped"] == full["dropped"] + 8000
    sink.open.set()
    assert (await until_sent(server, 1000))["waiting"] == 0


@pytest.mark.parametrize("server", [2], indirect=True)
async def test_a_log_goes_on_over_changes_of_the_service_and_is_summed_over_fronts(
    server: Running, iris: Path, sink: EventSink
) -> None:
    url = f"{server.url}/v1/models/iris:predict"
    logger = {"url": sink.url, "mode": "request"}
    await server.apply(service("iris", iris, logger=logger))
    for _ in range(20):
        await asyncio.to_thread(post, url)
    await until_sent(server, 20)
    await server.apply(service("iris", iris, logger=logger, batcher={"max_batch_size": 8}))
    for _ in range(20):
        await asyncio.to_thread(post, url)
    assert await until_sent(server, 40) == {"sent": 40, "dropped": 0, "failed": 0, "waiting": 0}
    assert (await server.status())["services"][0]["logger"]["sent"] == 40
    await server.apply(service("iris", iris))
    async with asyncio.timeout(30):
        while await counted(server):  # noqa: ASYNC110 - asked of another process
            await asyncio.sleep(0.05)
    before = len(sink.events)
    await asyncio.to_thread(post, url)
    assert len(sink.events) == before == 40


async def test_what_waits_is_sent_when_the_server_is_told_to_stop(server: Running, iris: Path, sink: EventSink) -> None:
    sink.open.clear()
    await server.apply(service("iris", iris, logger={"url": sink.url}))
    await asyncio.to_thread(lambda: [post(f"{server.url}/v1/models/iris:predict") for _ in range(20)])
    server.process.terminate()
    sink.open.set()
    await asyncio.wait_for(server.process.wait(), 30)
    assert len(sink.events) == 40
