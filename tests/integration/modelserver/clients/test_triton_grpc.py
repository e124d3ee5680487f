"""What Triton's public client examples do over gRPC alone: streams, callbacks, channel options, the bare stub."""

import queue
import uuid

import grpc
import numpy as np
import pytest
import tritonclient.grpc as tritonclient
from tests.integration.modelserver.clients.test_triton_scenarios import (
    LEFT,
    ONES,
    VALUES,
    both,
    is_sum_and_difference,
    pair,
)
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

KINDS = ["grpc", "grpc_aio"]


@pytest.fixture
def stub(serving):
    with grpc.insecure_channel(serving.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor_of(name, datatype, field, values):
    made = service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=[1, 16])
    getattr(made.contents, field).extend(values)
    return made


def test_the_stub_alone(stub):
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name="simple", version="1")).ready
    assert "sequence" in stub.ServerMetadata(service_pb2.ServerMetadataRequest()).extensions
    metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="simple", version="1"))
    assert [tensor.name for tensor in metadata.outputs] == ["OUTPUT0", "OUTPUT1"]
    config = stub.ModelConfig(service_pb2.ModelConfigRequest(name="simple", version="1")).config
    assert [list(tensor.dims) for tensor in config.input] == [[16], [16]]
    request = service_pb2.ModelInferRequest(model_name="simple", model_version="1", id="my request id")
    for name, array in (("INPUT0", LEFT), ("INPUT1", ONES)):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(array.tobytes())
    request.outputs.add(name="OUTPUT0")
    answer = stub.ModelInfer(request)
    assert (answer.id, [output.name for output in answer.outputs]) == ("my request id", ["OUTPUT0"])
    assert np.frombuffer(answer.raw_output_contents[0], np.int32).tolist() == (LEFT + ONES).reshape(-1).tolist()


def test_typed_contents(stub):
    numbers = LEFT.reshape(-1).tolist()
    inputs = [tensor_of(name, "INT32", "int_contents", numbers) for name in ("INPUT0", "INPUT1")]
    answer = stub.ModelInfer(service_pb2.ModelInferRequest(model_name="simple", inputs=inputs))
    assert list(answer.outputs[0].contents.int_contents) == [2 * number for number in numbers]
    assert list(answer.outputs[1].contents.int_contents) == [0] * 16


def test_typed_contents_of_small_numbers(stub):
    values = [-128, 127, *range(14)]
    answer = stub.ModelInfer(
        service_pb2.ModelInferRequest(
            model_name="simple_int8", inputs=[tensor_of("INPUT0", "INT8", "int_contents", values)]
        )
    )
    assert list(answer.outputs[0].contents.int_contents) == values
    request = service_pb2.ModelInferRequest(
        model_name="simple_int8", inputs=[tensor_of("INPUT0", "INT8", "int_contents", [128] * 16)]
    )
    with pytest.raises(grpc.RpcError, match="INT8 cannot hold"):
        stub.ModelInfer(request)


def test_typed_contents_of_texts(stub):
    words = [str(number).encode() for number in range(16)]
    inputs = [tensor_of(name, "BYTES", "bytes_contents", words) for name in ("INPUT0", "INPUT1")]
    answer = stub.ModelInfer(service_pb2.ModelInferRequest(model_name="simple_string", inputs=inputs))
    assert [int(item) for item in answer.outputs[0].contents.bytes_contents] == [2 * number for number in range(16)]


@pytest.mark.parametrize("kind", KINDS)
def test_custom_channel_arguments(connect, kind):
    options = [
        ("grpc.max_send_message_length", 1 << 20),
        ("grpc.max_receive_message_length", 1 << 20),
        ("grpc.keepalive_time_ms", 2**31 - 1),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", False),
        ("grpc.http2.max_pings_without_data", 2),
        ("grpc.dns_enable_srv_queries", 1),
    ]
    client = connect(kind, channel_args=options)
    result = client.infer("simple", pair(client.module), outputs=both(client.module), headers={"test": "1"})
    assert is_sum_and_difference(result)
    large = np.zeros((20_000, 16), np.int32)
    with pytest.raises(InferenceServerException, match="larger than max"):
        client.infer("simple", pair(client.module, large, large))


@pytest.mark.parametrize("kind", KINDS)
def test_keepalive(connect, kind):
    """Pings far more often than servers usually allow (every 5 minutes) do not end the connection."""
    options = tritonclient.KeepAliveOptions(
        keepalive_time_ms=50,
        keepalive_timeout_ms=1000,
        keepalive_permit_without_calls=True,
        http2_max_pings_without_data=0,
    )
    client = connect(kind, keepalive_options=options)
    for _ in range(3):
        assert is_sum_and_difference(client.infer("simple", pair(client.module), outputs=both(client.module)))
        tensor = client.module.InferInput("IN", [1], "INT32")  # a call that takes eight pings' time
        tensor.set_data_from_numpy(np.ones(1, np.int32))
        rest = [client.module.InferInput(name, [1], "UINT32") for name in ("DELAY", "WAIT")]
        for each in rest:
            each.set_data_from_numpy(np.full(1, 400_000, np.uint32))
        assert client.infer("repeat_int32", [tensor, *rest]).as_numpy("OUT").tolist() == [1]


def test_callbacks(connect):
    client = connect("grpc")
    answers = queue.Queue()
    for number in range(8):
        client.async_infer(
            "simple",
            pair(client.module, right=ONES * number),
            lambda result, error, number=number: answers.put((number, result, error)),
            outputs=both(client.module),
        )
    for _ in range(8):
        number, result, error = answers.get(timeout=20)
        assert error is None
        assert is_sum_and_difference(result, right=ONES * number)
    client.async_infer("nobody", pair(client.module), lambda result, error: answers.put((0, result, error)))
    assert "Request for unknown model" in answers.get(timeout=20)[2].message()


def request_of(value, sequence, place, last):
    """The keyword arguments of one request of a sequence."""
    tensor = tritonclient.InferInput("INPUT", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.full((1, 1), value, np.int32))
    return {
        "inputs": [tensor],
        "outputs": [tritonclient.InferRequestedOutput("OUTPUT")],
        "request_id": f"{sequence}_{place}",
        "sequence_id": sequence,
        "sequence_start": place == 0,
        "sequence_end": place == last,
    }


def sequences():
    """Three sequences of `simple_sequence`, one with a text for its id, and one of `simple_dyna_sequence`: name, id, numbers,
    answers."""
    negative = [-value for value in VALUES]
    text = str(uuid.UUID(int=7))
    sums = np.cumsum([20, *negative]).tolist()
    return [
        ("simple_sequence", 1000, [0, *VALUES], [1, *VALUES]),
        ("simple_sequence", 1001, [100, *negative], [101, *negative]),
        ("simple_sequence", text, [20, *negative], [21, *negative]),
        ("simple_dyna_sequence", 1002, [20, *negative], [*sums[:-1], sums[-1] + 1002]),
    ]


def in_turns():
    """All requests of the sequences, one of each in turn: their sequence's id and their keyword arguments."""
    for place in range(len(VALUES) + 1):
        for name, sequence, values, _ in sequences():
            yield {"model_name": name, **request_of(values[place], sequence, place, len(VALUES))}


def test_sequences_on_a_stream(connect):
    client = connect("grpc")
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    asked = list(in_turns())
    for each in asked:
        client.async_stream_infer(**each)
    found = {str(sequence): [] for _, sequence, _, _ in sequences()}
    for _ in asked:
        result, error = answers.get(timeout=20)
        assert error is None
        sequence, _, place = result.get_response().id.partition("_")
        assert int(place) == len(found[sequence])  # the answers of each come in order
        found[sequence].append(result.as_numpy("OUTPUT").item())
    client.stop_stream()
    assert found == {str(sequence): wanted for _, sequence, _, wanted in sequences()}


async def test_sequences_on_an_asyncio_stream(serving):
    import tritonclient.grpc.aio as aio

    async def requests():
        for each in in_turns():
            yield each

    found = {str(sequence): [] for _, sequence, _, _ in sequences()}
    async with aio.InferenceServerClient(serving.grpc) as client:
        async for result, error in client.stream_infer(requests(), stream_timeout=20):
            assert error is None
            found[result.get_response().id.partition("_")[0]].append(result.as_numpy("OUTPUT").item())
    assert found == {str(sequence): wanted for _, sequence, _, wanted in sequences()}


def repeating(count, delay):
    values = {
        "IN": np.arange(100, 100 + count, dtype=np.int32),
        "DELAY": np.full(count, delay, np.uint32),
        "WAIT": np.array([delay], np.uint32),
    }
    inputs = []
    for name, array in values.items():
        inputs.append(tritonclient.InferInput(name, list(array.shape), "INT32" if name == "IN" else "UINT32"))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def test_a_decoupled_model(connect):
    client = connect("grpc")
    assert client.get_model_config("repeat_int32").config.model_transaction_policy.decoupled
    assert connect("http").get_model_config("repeat_int32")["model_transaction_policy"]["decoupled"]
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    outputs = [tritonclient.InferRequestedOutput("OUT")]
    client.async_stream_infer("repeat_int32", repeating(10, 1000), outputs=outputs)
    found = [answers.get(timeout=20) for _ in range(10)]
    client.stop_stream()
    assert [error for _, error in found] == [None] * 10
    assert [result.as_numpy("OUT").tolist() for result, _ in found] == [[number] for number in range(100, 110)]


def test_a_stream_that_is_cancelled_ends_the_models_work(connect):
    """The client goes away in the middle of an answer that would take a minute; the next one finds the model free."""
    client = connect("grpc")
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("repeat_int32", repeating(600, 100_000))
    assert answers.get(timeout=20)[0].as_numpy("OUT").tolist() == [100]
    client.stop_stream(cancel_requests=True)
    result = connect("http").infer("repeat_int32", http_of(repeating(2, 10)))
    assert result.as_numpy("OUT").tolist() == [101]


def http_of(inputs):
    import tritonclient.http as http

    made = []
    for each in inputs:
        made.append(http.InferInput(each.name(), list(each.shape()), each.datatype()))
        array = np.frombuffer(each._get_content(), np.int32 if each.datatype() == "INT32" else np.uint32)
        made[-1].set_data_from_numpy(array)
    return made
