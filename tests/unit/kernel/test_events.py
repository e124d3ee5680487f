"""The CloudEvents envelope, against the examples and rules of its specification."""

import orjson
import pytest

from mlaas.kernel.errors import Invalid, Malformed
from mlaas.kernel.events import CloudEvent

EXAMPLE = {
    "specversion": "1.0",
    "type": "com.github.pull_request.opened",
    "source": "https://github.com/cloudevents/spec/pull",
    "subject": "123",
    "id": "A234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
    "datacontenttype": "text/xml",
    "data": '<much wow="xml"/>',
}


def test_the_specifications_example_survives_a_round_trip() -> None:
    event = CloudEvent.from_json(orjson.dumps(EXAMPLE))
    assert (event.type, event.subject, event.data) == (EXAMPLE["type"], "123", EXAMPLE["data"])
    assert event.extensions == {"comexampleextension1": "value", "comexampleothervalue": 5}
    assert orjson.loads(event.to_json()) == EXAMPLE


def test_bytes_travel_as_base64() -> None:
    event = CloudEvent("t", "/s", b"\x00\xff", datacontenttype="application/octet-stream")
    assert orjson.loads(event.to_json())["data_base64"] == "AP8="
    assert CloudEvent.from_json(event.to_json()) == event


def test_unset_attributes_are_left_out_and_ids_differ() -> None:
    one, two = CloudEvent("t", "/s"), CloudEvent("t", "/s")
    assert set(orjson.loads(one.to_json())) == {"specversion", "type", "source", "id"}
    assert one.id != two.id


def test_headers_are_percent_encoded_as_the_binding_says() -> None:
    event = CloudEvent(
        "t", "/s", subject='Euro € "😀" 50%', datacontenttype="text/plain", id="1", extensions={"on": True}
    )
    assert event.headers() == {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/s",
        "ce-type": "t",
        "ce-subject": "Euro%20%E2%82%AC%20%22%F0%9F%98%80%22%2050%25",
        "content-type": "text/plain",
        "ce-on": "true",
    }


@pytest.mark.parametrize("change", [{"specversion": "0.3"}, {"id": ""}, {"type": 5}, {"source": None}])
def test_what_is_no_cloudevent_is_invalid(change: dict[str, object]) -> None:
    with pytest.raises(Invalid) as caught:
        CloudEvent.from_json(orjson.dumps({**EXAMPLE, **change}))
    assert caught.value.field == next(iter(change))


def test_broken_bodies() -> None:
    with pytest.raises(Malformed):
        CloudEvent.from_json(b"{")
    with pytest.raises(Invalid):
        CloudEvent.from_json(b"[]")
    with pytest.raises(Invalid, match="base64"):
        CloudEvent.from_json(
            orjson.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "?"})
        )
