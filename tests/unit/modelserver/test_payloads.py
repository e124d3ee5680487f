import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.servers.sink import EventSink
from tests.unit.modelserver.models import SIGNATURE, answer, rows, times

from mlaas.kernel.errors import Invalid
from mlaas.modelserver import payloads, sinks
from mlaas.modelserver.errors import Failed
from mlaas.modelserver.payloads import QUEUED, Payloads, Room
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.table import Logger
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.wrap.logged import Logged


@pytest.fixture
def sink() -> Iterator[EventSink]:
    with EventSink() as made:
        yield made


def log(url: str, mode: Any = "all", room: Room | None = None, **metadata: str) -> Payloads:
    return Payloads(Logger(url=url, mode=mode, metadata=metadata), "higgs", "tagger", "predictor", room)


def named(value: float, id: str = "", protocol: str = "v2", **headers: str) -> Request:
    request = rows(value)
    request.id, request.protocol = id, protocol
    request.headers = {name.replace("_", "-"): text for name, text in headers.items()}
    return request


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what a server in a thread has seen
            await asyncio.sleep(0.005)


async def test_a_sink_gets_request_and_response_with_kserves_types_and_attributes(sink: EventSink) -> None:
    events = log(f"{sink.url}/in?from=mlaas", team="Größe & Co", code="7%")
    logged = Logged(times(2), events)
    assert await answer(logged, named(3, "r-1", "v1", ce_id="event-7", authorization="Bearer secret")) == [6.0]
    await events.close()
    (asked,), (answered,) = sink.of("request"), sink.of("response")
    assert asked.path == "/in?from=mlaas"
    assert asked.headers["content-type"] == "application/json"
    assert asked.data == {"instances": [[3.0, 1.0]]}
    assert answered.data == {"predictions": [6.0]}
    for event in (asked, answered):
        stamp = event.attributes.pop("recordedtime")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", stamp)
        assert event.attributes.pop("time") == stamp
        event.attributes.pop("type")
        assert event.attributes == {
            "specversion": "1.0",
            "id": "event-7",
            "source": "/projects/higgs/services/tagger",
            "inferenceservicename": "tagger",
            "namespace": "higgs",
            "component": "predictor",
            "endpoint": "default",
            "metadata": "{}",
            "annotations": '{"team":"Größe & Co","code":"7%"}',
        }
        assert "secret" not in f"{event.headers} {event.body!r}"
    assert events.counts == {"sent": 2, "dropped": 0, "failed": 0}


@pytest.mark.parametrize(("mode", "kinds"), [("all", 2), ("request", 1), ("response", 1)])
async def test_the_mode_says_what_is_logged(sink: EventSink, mode: str, kinds: int) -> None:
    events = log(sink.url, mode)
    await answer(Logged(times(2), events), named(3, "r-1"))
    await events.close()
    assert len(sink.events) == kinds
    assert bool(sink.of("request")) == (mode != "response")
    assert bool(sink.of("response")) == (mode != "request")
    assert {event.attributes["id"] for event in sink.events} == {"r-1"}


async def test_a_request_that_fails_is_logged_and_its_error_is_not(sink: EventSink) -> None:
    class Failing(Predictor):
        signature = SIGNATURE

        def infer(self, request: Request) -> Response:
            raise Failed("It broke.")

    events = log(sink.url)
    with pytest.raises(Failed):
        await answer(Logged(Failing(), events), named(3))
    await events.close()
    assert [event.attributes["type"] for event in sink.events] == ["org.kubeflow.serving.inference.request"]
    assert len(sink.events[0].attributes["id"]) == 36  # neither event nor request had one


async def test_a_canarys_answers_are_told_apart(sink: EventSink) -> None:
    class Side(Predictor):
        signature = SIGNATURE

        def infer(self, request: Request) -> Response:
            found = times(2).infer(request)
            found.version = "2" if request.inputs[0].array[0, 0] > 5 else "1"
            return found

    events = log(sink.url, "response")
    logged = Logged(Side(), events, canaries=frozenset("2"))
    await answer(logged, named(1, "a"))
    await answer(logged, named(9, "b"))
    await events.close()
    assert {event.attributes["id"]: event.attributes["endpoint"] for event in sink.events} == {
        "a": "default",
        "b": "canary",
    }


async def test_a_streamed_answer_is_one_event_with_its_pieces(sink: EventSink) -> None:
    class Counting(Predictor):
        signature = SIGNATURE

        def infer(self, request: Request) -> Response:
            raise NotImplementedError

        async def stream(self, request: Request) -> AsyncIterator[Response]:
            for value in (1.0, 2.0):
                yield Response([Tensor("y", np.array([value], np.float32))])

    events = log(sink.url)
    assert len([piece async for piece in Logged(Counting(), events).stream(named(1, "s"))]) == 2
    await events.close()
    (answered,) = sink.of("response")
    assert [piece["outputs"][0]["data"] for piece in answered.data] == [[1.0], [2.0]]


async def test_what_cannot_be_written_as_json_is_null_and_texts_are_texts(sink: EventSink) -> None:
    events = log(sink.url, "request")
    texts = np.empty(2, dtype=object)
    texts[:] = ["Größe".encode(), b"\xff"]
    half = np.array([1.5, np.inf, np.nan], dtype=np.float16)
    brain = np.array([0x3F80, 0xC000], dtype=np.uint16)  # 1 and -2
    events.request(Request([Tensor("t", texts), Tensor("h", half), Tensor("b", brain, "BF16")], id="x"))
    await events.close()
    found = {each["name"]: each["data"] for each in sink.events[0].data["inputs"]}
    assert found == {"t": ["Größe", "\ufffd"], "h": [1.5, None, None], "b": [1.0, -2.0]}


async def test_memory_that_changes_after_the_request_does_not_change_its_event(sink: EventSink) -> None:
    events = log(sink.url, "request")
    request = rows(1)
    events.request(request)
    request.inputs[0].array[:] = 99
    await events.close()
    assert sink.events[0].data["inputs"][0]["data"] == [1.0, 1.0]


async def test_a_sink_that_says_nothing_slows_no_request_and_drops_are_counted(sink: EventSink) -> None:
    sink.open.clear()
    events = log(sink.url, "request")
    logged = Logged(times(2), events)
    count = 20 * QUEUED
    begin = time.perf_counter()
    for n in range(count):
        logged.infer(named(n))
        if n == 100:
            await asyncio.sleep(0.05)  # the senders take what they can
    seconds = time.perf_counter() - begin
    assert seconds / count < 200e-6
    assert events.waiting == QUEUED
    assert events.counts["dropped"] == count - QUEUED - 8  # eight are on their way
    sink.open.set()
    await events.flush(30)
    assert events.counts["sent"] == len(sink.events) == QUEUED + 8
    await events.close()


async def test_waiting_events_take_no_more_bytes_than_there_is_room_for(sink: EventSink) -> None:
    sink.open.clear()
    room = Room(1 << 20)
    first, second = log(sink.url, "request", room), log(sink.url, "request", room)
    large = Request([Tensor("x", np.zeros((1000, 29), np.float32))])
    for _ in range(100):
        first.request(large)
        second.request(large)
    assert room.used <= room.limit
    assert first.counts["dropped"] + second.counts["dropped"] == 200 - (1 << 20) // (116000 + 500)
    sink.open.set()
    await first.close()
    await second.close()
    assert room.used == 0
    assert first.counts["sent"] + second.counts["sent"] == 9


async def test_events_for_a_dead_sink_are_given_up_after_some_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "_AGAIN", 0.02)
    with EventSink() as gone:
        port = gone.port
    events = log(f"http://127.0.0.1:{port}/", "request")
    events.request(named(1, "early"))
    await until(lambda: bool(events.error))
    assert "ConnectionRefusedError" in events.error
    await events.flush(20)
    assert events.counts == {"sent": 0, "dropped": 0, "failed": 1}  # five tries, and then it is given up
    assert events.status()["error"] == events.error
    await events.close()


async def test_errors_of_the_sink_are_tried_again_and_refusals_are_not(
    sink: EventSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "_AGAIN", 0.02)
    events = log(sink.url, "request")
    sink.status = 503
    events.request(named(1))
    await until(lambda: len(sink.events) > 1)
    sink.status = 202
    await events.flush(20)
    assert events.counts == {"sent": 1, "dropped": 0, "failed": 0}
    sink.status = 400
    sink.events.clear()
    events.request(named(1))
    await events.flush(20)
    assert len(sink.events) == 1
    assert events.counts == {"sent": 1, "dropped": 0, "failed": 1}
    assert "400" in events.error
    await events.close()


async def test_connections_are_kept_and_opened_again(sink: EventSink) -> None:
    events = log(sink.url, "request")
    for n in range(30):
        events.request(named(n))
        await events.flush(20)
    assert sink.connections <= 8
    await events.close()


async def test_closing_waits_a_moment_and_counts_the_rest_as_dropped(sink: EventSink) -> None:
    sink.open.clear()
    events = log(sink.url, "request")
    for n in range(10):
        events.request(named(n))
    await events.close(timeout=0.05)
    assert events.counts == {"sent": 0, "dropped": 10, "failed": 0}
    events.request(named(11))
    assert events.counts["dropped"] == 11


async def test_credentials_of_the_sink_go_to_the_sink_and_are_shown_nowhere(sink: EventSink) -> None:
    url = sink.url.replace("http://", "http://user:pass%20word@")
    events = log(url, "request")
    events.request(named(1))
    await events.close()
    assert sink.events[0].headers["authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="
    assert "user" not in str(sink.events[0].attributes)
    assert events.status()["url"] == sink.url
    with pytest.raises(Invalid) as refused:
        log("ftp://user:word@host/")
    assert "word" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["http://", "https:///path", "http://host:99999/", "http://host:0/", "ftp://host/", "file://"]
)
def test_what_is_no_sink_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="logger's url"):
        log(url)


async def test_a_file_gets_structured_events_a_line_each_from_several_writers(tmp_path: Path) -> None:
    path = tmp_path / "of the team" / "events.jsonl"
    writers = [log(path.as_uri(), "request", team="cms") for _ in range(3)]
    for n in range(300):
        writers[n % 3].request(named(n, f"r-{n}"))
    for writer in writers:
        await writer.close()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(event["id"] for event in found) == sorted(f"r-{n}" for n in range(300))
    event = next(event for event in found if event["id"] == "r-3")
    assert event["data"]["inputs"][0]["data"] == [3.0, 1.0]
    assert (event["specversion"], event["type"], event["annotations"], event["datacontenttype"]) == (
        "1.0",
        "org.kubeflow.serving.inference.request",
        '{"team":"cms"}',
        "application/json",
    )


async def test_a_full_disk_leaves_no_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource
    import signal

    path = tmp_path / "events.jsonl"
    events = log(path.as_uri(), "request")
    events.request(named(1, "fits"))
    await events.flush()
    monkeypatch.setattr(payloads, "_AGAIN", 0.001)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        events.request(named(2, "does not fit"))
        await events.flush(20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert events.counts == {"sent": 1, "dropped": 0, "failed": 1}
    events.request(named(3, "fits again"))
    await events.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["fits", "fits again"]


async def test_the_bus_gets_structured_events(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, Any]] = []

    async def take(events: list[str]) -> None:
        taken.extend(map(json.loads, events))

    events = log("bus://")
    events.request(named(1, "lost"))
    await events.flush()
    assert events.counts["failed"] == 1
    assert "beside no platform" in events.error
    monkeypatch.setattr(sinks, "bus", take)
    events.request(named(2, "taken"))
    await events.close()
    assert [event["id"] for event in taken] == ["taken"]
    assert taken[0]["data"]["inputs"][0]["data"] == [2.0, 1.0]
