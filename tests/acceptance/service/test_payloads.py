"""Payload logging of services of a running platform: to a URL, to a file below its roots, to the bus."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from tests.acceptance.service.serving import ROWS, ask, ready, service, until
from tests.platform import Platform
from tests.servers.sink import EventSink

from mlaas.client import ApiError, Client


@pytest.fixture
def sink() -> Iterator[EventSink]:
    with EventSink() as made:
        yield made


def wait(holds: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def served(client: Client, name: str, url: str, **logger: Any) -> None:
    client.create("services", service(name, "one", access="public", logger={"url": url, **logger}))
    until(client, name, ready)


def test_a_url_gets_events_without_the_callers_token_and_metrics_count_them(
    platform: Platform, client: Client, sink: EventSink
) -> None:
    served(client, "logged", f"{sink.url}/events", metadata={"team": "cms"})
    url = f"http://127.0.0.1:{platform.inference_port}/v1/models/logged:predict"
    assert ask(url, platform.token, ce_id="e-1", ce_source="s", ce_type="t", ce_specversion="1.0")[0] == 200
    wait(lambda: len(sink.events) == 2)
    for event in sink.events:
        assert (event.attributes["id"], event.attributes["namespace"]) == ("e-1", "default")
        assert platform.token not in f"{event.headers} {event.body!r}"
    assert sink.of("request")[0].data == ROWS
    text = httpx2.get(f"http://127.0.0.1:{platform.inference_port}/metrics").text
    assert 'mlaas_payload_events_total{model="logged",outcome="sent",project="default"} 2.0' in text
    client.delete("services", "logged")


def test_a_file_below_the_roots_gets_a_line_for_each_event(platform: Platform, client: Client) -> None:
    path = platform.files / "logs" / "payloads.jsonl"
    served(client, "filed", path.as_uri(), mode="response")
    assert ask(f"http://127.0.0.1:{platform.inference_port}/v1/models/filed:predict")[0] == 200
    wait(lambda: path.exists() and path.read_text().endswith("\n"))
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["type"] == "org.kubeflow.serving.inference.response"
    client.delete("services", "filed")


def test_the_bus_carries_events_to_whoever_listens(platform: Platform, client: Client) -> None:
    served(client, "told", "bus://")
    found: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        headers = {"authorization": f"Bearer {platform.token}"}
        url = f"{platform.url}/api/v1/projects/default/services/told/payloads"
        with httpx2.stream("GET", url, headers=headers, timeout=60) as answer:
            for line in answer.iter_lines():
                if line:
                    found.put(line)
                if line.startswith("data:") and "response" in line:
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert found.get(timeout=30) == ": listening"
    assert ask(f"http://127.0.0.1:{platform.inference_port}/v1/models/told:predict")[0] == 200
    thread.join(30)
    events = [json.loads(found.get(timeout=30).removeprefix("data: ")) for _ in range(2)]
    assert [event["type"].rpartition(".")[2] for event in events] == ["request", "response"]
    assert events[0]["data"] == ROWS
    assert events[0]["id"] == events[1]["id"]
    assert {event["inferenceservicename"] for event in events} == {"told"}
    client.delete("services", "told")


@pytest.mark.parametrize("url", ["http://", "http://host:99999/x", "https:///x", "ftp://host/", "file://relative"])
def test_a_url_that_is_no_sink_is_refused(client: Client, url: str) -> None:
    with pytest.raises(ApiError) as refused:
        client.create("services", service("never", "one", logger={"url": url}))
    assert refused.value.status == 422
    assert refused.value.problem["errors"][0]["field"] == "spec.logger.url"
