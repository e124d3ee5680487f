"""A body of a form that was seen before is read as the general reader reads it, or is left to it."""

import json

import numpy as np
import pytest

from mlaas.modelserver.http.arrays import array_from_json
from mlaas.modelserver.http.repeated import Repeated
from mlaas.modelserver.http.v2 import parse, shaped


def body(
    data: object, *, name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), **more: object
) -> bytes:
    tensor = {"name": name, "shape": list(shape), "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def learnt(first: bytes) -> Repeated:
    known = Repeated()
    parsed = parse(first)
    part = parsed.inputs[0]
    known.add(first, parsed, shaped(part, array_from_json(part.name, part.datatype, bytes(part.data))))
    return known


@pytest.mark.parametrize(
    ("first", "second", "shape"),
    [
        (body([1.0, 2.0]), body([3.5, -4]), (1, 2)),
        (body([[1.0, 2.0]]), body([[3.5, -4e0]]), (1, 2)),
        (body([[1, 2], [3, 4]], shape=(2, 2)), body([[5, 6], [7, 8]], shape=(2, 2)), (2, 2)),
        (
            body([1, 2], shape=(2, 1), outputs=[{"name": "y"}]),
            body([3, 4], shape=(2, 1), outputs=[{"name": "y"}]),
            (2, 1),
        ),
    ],
)
def test_only_the_numbers_are_read(first: bytes, second: bytes, shape: tuple[int, ...]) -> None:
    found = learnt(first).find(second)
    assert found is not None
    parsed, (tensor,) = found
    wanted = parse(second)
    assert (tensor.name, tensor.datatype, tensor.array.shape) == ("x", "FP32", shape)
    np.testing.assert_array_equal(tensor.array.reshape(-1), np.reshape(json.loads(bytes(wanted.inputs[0].data)), -1))
    assert parsed.outputs == wanted.outputs


@pytest.mark.parametrize(
    "other",
    [
        body([1.0, 2.0, 3.0]),  # does not fill the shape
        body([[1.0, 2.0]]),  # nested
        body([1.0, "2"]),
        body([1.0, None]),
        body([1.0, 2.0], shape=(2, 1)),
        body([1.0, 2.0], name="z"),
        body([1.0, 2.0], datatype="FP64"),
        body([1e39, 2.0]),  # more than FP32 holds
        body([1.0, 2.0], id="1"),
        body([1.0, 2.0])[:-1],
        body([1.0, 2.0]) + b" ",
        b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0',
        b"",
        b"[]",
    ],
)
def test_anything_else_is_left_to_the_general_reader(other: bytes) -> None:
    assert learnt(body([1.0, 2.0])).find(other) is None


@pytest.mark.parametrize(
    "first",
    [
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1], "data": [1]}]}',  # the last one counts
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1], "d\\u0061ta": [1]}]}',
        body(["a", "b"], datatype="BYTES"),
        body([1.0, 2.0], id="1"),  # another form with each request
    ],
)
def test_a_form_with_a_doubt_is_not_kept(first: bytes) -> None:
    assert learnt(first).find(first) is None


def test_a_text_that_looks_like_data_is_not_taken_for_it() -> None:
    first = body([1.0, 2.0], parameters={"note": 'x "data": [1.0, 2.0]'})
    assert learnt(first).find(first) is None
