"""Triton's gRPC client, synchronous, asynchronous and streaming, against the server."""

import queue
from functools import partial

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as tritonclient
import tritonclient.grpc.aio as tritonclient_aio
from tests.integration.modelserver.grpc.models import PAIR
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

LEFT = np.arange(16, dtype=np.int32).reshape(1, 16)
RIGHT = np.full((1, 16), 3, np.int32)


def pair(left, right, datatype, module=tritonclient):
    inputs = [module.InferInput(name, left.shape, datatype) for name in PAIR]
    for tensor, array in zip(inputs, (left, right), strict=True):
        tensor.set_data_from_numpy(array)
    return inputs


@pytest.fixture
def client(running):
    with tritonclient.InferenceServerClient(running.address) as found:
        yield found


def refused(status, action):
    with pytest.raises(InferenceServerException) as found:
        action()
    assert found.value.status() == f"StatusCode.{status}", found.value
    return found.value.message()


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "2")
    assert not client.is_model_ready("loading")
    server = client.get_server_metadata()
    assert server.name == "mlaas"
    assert "binary_tensor_data" in server.extensions
    metadata = client.get_model_metadata("simple", as_json=True)
    assert metadata["versions"] == ["1", "2"]
    assert metadata["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": ["-1", "16"]}
    assert [output["name"] for output in metadata["outputs"]] == ["OUTPUT0", "OUTPUT1"]


def test_simple_sum_and_difference(client):
    result = client.infer("simple", pair(LEFT, RIGHT, "INT32"), request_id="one")
    assert result.as_numpy("OUTPUT0").tolist() == (LEFT + RIGHT).tolist()
    assert result.as_numpy("OUTPUT1").tolist() == (LEFT - RIGHT).tolist()
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("one", "simple", "2")


def test_a_version_and_some_outputs(client):
    outputs = [tritonclient.InferRequestedOutput("OUTPUT1")]
    result = client.infer("simple", pair(LEFT, RIGHT, "INT32"), model_version="1", outputs=outputs)
    assert result.as_numpy("OUTPUT0") is None
    assert result.as_numpy("OUTPUT1").tolist() == (LEFT - RIGHT).tolist()
    assert result.get_response().model_version == "1"


def test_simple_string(client):
    left = np.array([[str(number).encode() for number in range(16)]], object)
    right = np.array([[b"1"] * 16], object)
    result = client.infer("simple_string", pair(left, right, "BYTES"))
    assert [int(item) for item in result.as_numpy("OUTPUT0")[0]] == [number + 1 for number in range(16)]
    assert [int(item) for item in result.as_numpy("OUTPUT1")[0]] == [number - 1 for number in range(16)]


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT16", "UINT64", "INT64", "FP16", "FP32", "FP64", "BF16"])
def test_every_datatype_comes_back(client, datatype):
    values = np.array([[0, 1, 2], [1, 0, 3]], np.float32)
    array = values.astype(ml_dtypes.bfloat16 if datatype == "BF16" else triton_to_np_dtype(datatype))
    tensor = tritonclient.InferInput("x", array.shape, datatype)
    tensor.set_data_from_numpy(array)
    result = client.infer(f"identity_{datatype.lower()}", [tensor])
    assert result.as_numpy("y").tolist() == array.tolist()


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compression(client, compression):
    array = np.arange(40000, dtype=np.float32).reshape(100, 400)
    tensor = tritonclient.InferInput("x", array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    result = client.infer("identity_fp32", [tensor], compression_algorithm=compression)
    assert (result.as_numpy("y") == array).all()


def test_classification(client):
    tensor = tritonclient.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.array([[0.1, 0.7, 0.2]], np.float32))
    outputs = [tritonclient.InferRequestedOutput("y", class_count=2)]
    result = client.infer("identity_fp32", [tensor], outputs=outputs)
    assert result.as_numpy("y").tolist() == [[b"0.700000:1:b", b"0.200000:2:c"]]


def test_configuration_statistics_and_index(client):
    config = client.get_model_config("simple").config
    assert config.name == "simple"
    assert [tensor.data_type for tensor in config.input] == [8, 8]  # TYPE_INT32
    assert not config.model_transaction_policy.decoupled
    assert client.get_model_config("repeat").config.model_transaction_policy.decoupled
    before = client.get_inference_statistics("simple", "2").model_stats[0]
    client.infer("simple", pair(np.repeat(LEFT, 4, 0), np.repeat(RIGHT, 4, 0), "INT32"))
    after = client.get_inference_statistics("simple", "2").model_stats[0]
    assert after.inference_count - before.inference_count == 4
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert len(client.get_inference_statistics("simple").model_stats) == 2
    states = {(model.name, model.version): model for model in client.get_model_repository_index().models}
    assert states["simple", "1"].state == "READY"
    assert states["loading", "1"].reason == "it is being read"
    assert ("private", "1") not in states


def test_errors_have_their_codes(client):
    inputs = pair(LEFT, RIGHT, "INT32")
    assert "nobody" in refused("NOT_FOUND", lambda: client.infer("nobody", inputs))
    refused("NOT_FOUND", lambda: client.infer("simple", inputs, model_version="9"))
    refused("NOT_FOUND", lambda: client.get_model_metadata("nobody"))
    assert "it is being read" in refused("UNAVAILABLE", lambda: client.infer("loading", inputs))
    assert "INPUT1" in refused("INVALID_ARGUMENT", lambda: client.infer("simple", inputs[:1]))
    wide = np.zeros((1, 17), np.int32)
    assert "[-1, 16]" in refused("INVALID_ARGUMENT", lambda: client.infer("simple", pair(wide, wide, "INT32")))
    outputs = [tritonclient.InferRequestedOutput("OUTPUT7")]
    refused("INVALID_ARGUMENT", lambda: client.infer("simple", inputs, outputs=outputs))
    refused("UNIMPLEMENTED", lambda: client.load_model("simple"))


def test_client_timeout(client, running):
    tensor = tritonclient.InferInput("x", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    slow = partial(client.infer, "waiting", [tensor], parameters={"seconds": 30.0})
    refused("DEADLINE_EXCEEDED", partial(slow, client_timeout=0.2))
    refused("DEADLINE_EXCEEDED", partial(slow, timeout=200_000))  # the parameter, which the server keeps


def test_asynchronous_calls(client):
    results: queue.Queue = queue.Queue()
    inputs = pair(LEFT, RIGHT, "INT32")
    for number in range(20):
        client.async_infer("simple", inputs, lambda result, error: results.put((result, error)), request_id=str(number))
    found = [results.get(timeout=20) for _ in range(20)]
    assert all(error is None for _, error in found)
    assert {result.get_response().id for result, _ in found} == {str(number) for number in range(20)}


class TestStream:
    @pytest.fixture
    def answers(self, client):
        found: queue.Queue = queue.Queue()
        client.start_stream(lambda result, error: found.put((result, error)))
        yield found
        client.stop_stream()

    def test_answers_come_in_the_order_of_requests(self, client, answers):
        for number in range(50):
            client.async_stream_infer("simple", pair(LEFT, RIGHT + number, "INT32"), request_id=str(number))
        for number in range(50):
            result, error = answers.get(timeout=20)
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("OUTPUT1").tolist() == (LEFT - RIGHT - number).tolist()

    def test_a_decoupled_model_gives_many(self, client, answers):
        tensor = tritonclient.InferInput("IN", [3], "INT32")
        tensor.set_data_from_numpy(np.array([4, 5, 6], np.int32))
        client.async_stream_infer("repeat", [tensor], request_id="r", enable_empty_final_response=True)
        found = [answers.get(timeout=20) for _ in range(4)]
        assert [result.as_numpy("OUT").tolist() for result, _ in found[:3]] == [[4], [5], [6]]
        ends = [result.get_response().parameters["triton_final_response"].bool_param for result, _ in found]
        assert ends == [False, False, False, True]
        assert not found[3][0].get_response().outputs
        assert {result.get_response().id for result, _ in found} == {"r"}

    def test_a_single_answer_is_marked_as_the_last_one(self, client, answers):
        client.async_stream_infer("simple", pair(LEFT, RIGHT, "INT32"), enable_empty_final_response=True)
        result, error = answers.get(timeout=20)
        assert error is None
        assert result.get_response().parameters["triton_final_response"].bool_param
        assert result.as_numpy("OUTPUT0").tolist() == (LEFT + RIGHT).tolist()

    def test_an_error_leaves_the_stream_open(self, client, answers):
        client.async_stream_infer("nobody", pair(LEFT, RIGHT, "INT32"))
        result, error = answers.get(timeout=20)
        assert result is None
        assert "nobody" in error.message()
        tensor = tritonclient.InferInput("IN", [3], "INT32")
        tensor.set_data_from_numpy(np.array([4, -1, 6], np.int32))
        client.async_stream_infer("repeat", [tensor])
        assert answers.get(timeout=20)[0].as_numpy("OUT").tolist() == [4]
        assert "negative" in answers.get(timeout=20)[1].message()
        client.async_stream_infer("simple", pair(LEFT, RIGHT, "INT32"))
        assert answers.get(timeout=20)[0].as_numpy("OUTPUT0").tolist() == (LEFT + RIGHT).tolist()


async def test_the_asyncio_client(running):
    async with tritonclient_aio.InferenceServerClient(running.address) as client:
        assert await client.is_server_live()
        result = await client.infer("simple", pair(LEFT, RIGHT, "INT32", tritonclient_aio))
        assert result.as_numpy("OUTPUT0").tolist() == (LEFT + RIGHT).tolist()

        async def requests():
            for number in range(5):
                yield {
                    "model_name": "simple",
                    "inputs": pair(LEFT, RIGHT + number, "INT32", tritonclient_aio),
                    "request_id": str(number),
                }

        found = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            found.append(result.as_numpy("OUTPUT1").tolist())
        assert found == [(LEFT - RIGHT - number).tolist() for number in range(5)]
