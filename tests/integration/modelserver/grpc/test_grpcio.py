"""Google's own gRPC client (the C core under grpcio): metadata, health, reflection, sizes, concurrency, resets."""

import asyncio
import socket

import grpc
import numpy as np
import pytest
from grpc import aio
from tests.integration.modelserver.grpc import models
from tests.integration.modelserver.grpc.conftest import start

from mlaas.modelserver.dispatch import digest_of
from mlaas.modelserver.grpc.limits import Limits
from mlaas.modelserver.grpc.messages import HEALTH, INFERENCE, REFLECTION, REFLECTION_ALPHA, message

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def request(model, array, *, typed=False, **parameters):
    found = message("ModelInferRequest")(model_name=model, id="i")
    datatype = {"float32": "FP32", "int32": "INT32"}[array.dtype.name]
    tensor = found.inputs.add(name="x", datatype=datatype, shape=array.shape)
    if typed:
        tensor.contents.fp32_contents.extend(array.ravel().tolist())
    else:
        found.raw_input_contents.append(array.tobytes())
    for name, value in parameters.items():
        found.parameters[name].double_param = value
    return found


def caller(channel, name):
    """A unary method of the inference service by its name."""
    return channel.unary_unary(
        f"/{INFERENCE}/{name}",
        request_serializer=message(f"{name}Request").SerializeToString,
        response_deserializer=message(f"{name}Response").FromString,
    )


@pytest.fixture
async def channel(running):
    async with aio.insecure_channel(running.address, options=LARGE) as found:
        yield found


def _raw(sent, data):
    sent.raw_input_contents[0] = data


async def refused(call, code):
    with pytest.raises(aio.AioRpcError) as found:
        await call
    assert found.value.code() is code, found.value
    return found.value


async def test_typed_contents_are_answered_in_kind(channel):
    array = np.array([[1.5, -2.0]], np.float32)
    infer = caller(channel, "ModelInfer")
    answer = await infer(request("identity_fp32", array, typed=True))
    assert list(answer.outputs[0].contents.fp32_contents) == [1.5, -2.0]
    assert not answer.raw_output_contents
    answer = await infer(request("identity_fp32", array))
    assert not answer.outputs[0].HasField("contents")
    assert answer.raw_output_contents[0] == array.tobytes()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda sent: sent.raw_input_contents.append(b"1234"), "2 raw_input_contents for 1 inputs"),
        (lambda sent: sent.inputs[0].contents.fp32_contents.append(1), "one of the two"),
        (lambda sent: sent.inputs.add(name="x", datatype="FP32", shape=[1, 1]), "1 raw_input_contents for 2"),
        (lambda sent: sent.inputs[0].shape.append(7), "takes 56 bytes; 8 were sent"),
        (lambda sent: sent.inputs[0].shape.append(1 << 50), "too large"),
        (lambda sent: sent.inputs[0].shape.append(-5), "dimensions"),
        (lambda sent: setattr(sent.inputs[0], "datatype", "FP33"), "FP33"),
        (lambda sent: setattr(sent, "model_version", "3"), "no version '3'"),
        (lambda sent: sent.outputs.add(name="z"), "no output 'z'"),
        (lambda sent: (setattr(sent.inputs[0], "datatype", "BYTES"), _raw(sent, b"\x09\0\0\0ab")), "goes past the end"),
    ],
)
async def test_bad_input_is_explained(channel, spoil, said):
    sent = request("identity_fp32", np.zeros((1, 2), np.float32))
    spoil(sent)
    with pytest.raises(aio.AioRpcError) as found:
        await caller(channel, "ModelInfer")(sent)
    assert found.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert said in found.value.details()


@pytest.mark.parametrize(
    ("datatype", "field", "values", "said"),
    [
        ("INT8", "int_contents", [300], "cannot hold"),
        ("FP16", "fp32_contents", [1.0], "raw_input_contents"),
        ("FP32", "fp64_contents", [1.0], "belong in fp32_contents"),
        ("FP32", "fp32_contents", [1.0, 2.0, 3.0], "3 elements"),
    ],
)
async def test_bad_typed_contents_are_explained(channel, datatype, field, values, said):
    sent = message("ModelInferRequest")(model_name=f"identity_{datatype.lower()}")
    getattr(sent.inputs.add(name="x", datatype=datatype, shape=[1, 1]).contents, field).extend(values)
    error = await refused(caller(channel, "ModelInfer")(sent), grpc.StatusCode.INVALID_ARGUMENT)
    assert said in error.details()


async def test_one_unknown_dimension_is_found_from_the_data(channel):
    for typed in (False, True):
        sent = request("identity_fp32", np.arange(6, dtype=np.float32).reshape(3, 2), typed=typed)
        sent.inputs[0].shape[:] = [-1, 2]
        answer = await caller(channel, "ModelInfer")(sent)
        assert list(answer.outputs[0].shape) == [3, 2]


async def test_errors_of_the_model_have_a_code_and_no_trace(channel):
    infer = caller(channel, "ModelInfer")
    sent = request("failing", np.zeros(1, np.float32))
    error = await refused(infer(sent), grpc.StatusCode.INTERNAL)
    assert "Traceback" not in error.details()
    sent.parameters["error"].string_param = "unavailable"
    await refused(infer(sent), grpc.StatusCode.UNAVAILABLE)


async def test_not_ready_says_when_to_come_back(channel):
    error = await refused(
        caller(channel, "ModelInfer")(request("loading", np.zeros(1, np.float32))), grpc.StatusCode.UNAVAILABLE
    )
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"


async def test_tokens_and_projects_are_metadata():
    gen = start(dispatch=models.served(tokens={"physics": [digest_of("secret")]}))
    running = next(gen)
    try:
        async with aio.insecure_channel(running.address) as channel:
            ready = caller(channel, "ModelReady")
            private = message("ModelReadyRequest")(name="private")
            await refused(ready(private), grpc.StatusCode.NOT_FOUND)
            project = ("mlaas-project", "physics")
            await refused(ready(private, metadata=(project,)), grpc.StatusCode.NOT_FOUND)
            await refused(ready(private, metadata=(project, ("authorization", "Bearer no"))), grpc.StatusCode.NOT_FOUND)
            token = ("authorization", "Bearer secret")
            assert (await ready(private, metadata=(project, token))).ready
            assert (await ready(private, metadata=(token,))).ready, "the project is the token's only one"
            index = caller(channel, "RepositoryIndex")
            asked = message("RepositoryIndexRequest")()
            assert [model.name for model in (await index(asked, metadata=(token,))).models] == ["private"]
    finally:
        gen.close()


async def test_health(channel, running):
    kind = message("grpc.health.v1.HealthCheckRequest")
    check = channel.unary_unary(
        f"/{HEALTH}/Check",
        request_serializer=kind.SerializeToString,
        response_deserializer=message("grpc.health.v1.HealthCheckResponse").FromString,
    )
    assert (await check(kind())).status == 1
    assert (await check(kind(service=INFERENCE))).status == 1
    assert (await check(kind(service="simple"))).status == 1
    assert (await check(kind(service="loading"))).status == 2
    await refused(check(kind(service="nobody")), grpc.StatusCode.NOT_FOUND)
    watch = channel.unary_stream(
        f"/{HEALTH}/Watch",
        request_serializer=kind.SerializeToString,
        response_deserializer=message("grpc.health.v1.HealthCheckResponse").FromString,
    )(kind(service="loading"))
    assert (await watch.read()).status == 2
    served = running.dispatch.repository.find("default", "loading").version()

    def load():
        served.predictor, served.state = models.simple(), "READY"

    running.do(load)
    assert (await watch.read()).status == 1
    watch.cancel()

    def unload():
        served.predictor, served.state = None, "LOADING"

    running.do(unload)


@pytest.mark.parametrize("service", [REFLECTION, REFLECTION_ALPHA])
async def test_reflection(channel, service):
    package = service.rpartition(".")[0]
    kind = message(f"{package}.ServerReflectionRequest")
    call = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=kind.SerializeToString,
        response_deserializer=message(f"{package}.ServerReflectionResponse").FromString,
    )()
    await call.write(kind(list_services=""))
    names = {found.name for found in (await call.read()).list_services_response.service}
    assert {INFERENCE, HEALTH, service} <= names
    await call.write(kind(file_containing_symbol=INFERENCE))
    assert b"ModelInferRequest" in (await call.read()).file_descriptor_response.file_descriptor_proto[0]
    await call.write(kind(file_by_filename="nothing.proto"))
    assert (await call.read()).error_response.error_code == 5
    await call.done_writing()
    assert await call.read() is aio.EOF


async def test_messages_up_to_the_limit(channel):
    """60 MiB there and back; above 64 MiB the answer is a status, and the connection goes on."""
    infer = caller(channel, "ModelInfer")
    array = np.arange(15 << 20, dtype=np.int32).reshape(15, -1)
    answer = await infer(request("identity_int32", array))
    assert answer.raw_output_contents[0] == array.tobytes()
    error = await refused(
        infer(request("identity_int32", np.zeros((17, 1 << 20), np.int32))), grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert str(64 << 20) in error.details()
    await caller(channel, "ServerLive")(message("ServerLiveRequest")())


async def test_a_thousand_streams_at_once(channel, running):
    infer = caller(channel, "ModelInfer")
    waiting = running.predictor("waiting")
    calls = [infer(request("waiting", np.full(3, number, np.float32), seconds=1.0)) for number in range(1000)]
    answers = await asyncio.gather(*calls)
    for number, answer in enumerate(answers):
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2.0 * number] * 3
    assert waiting.waiting == 0


async def test_a_reader_that_stops_gets_all_of_it_later(running):
    """Answers wait for a slow reader, and others are served meanwhile."""
    async with aio.insecure_channel(running.address, options=LARGE) as slow:
        call = slow.stream_stream(
            f"/{INFERENCE}/ModelStreamInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )()
        array = np.ones((1, 1 << 18), np.float32)
        for _ in range(40):
            await call.write(request("identity_fp32", array))
        await call.done_writing()
        async with aio.insecure_channel(running.address) as other:
            await caller(other, "ServerLive")(message("ServerLiveRequest")())
        count = 0
        async for answer in call:
            assert answer.infer_response.raw_output_contents[0] == array.tobytes()
            count += 1
        assert count == 40


async def test_deadlines_and_cancellation(channel, running):
    infer = caller(channel, "ModelInfer")
    waiting = running.predictor("waiting")
    before = waiting.cancelled
    slow = request("waiting", np.zeros(1, np.float32), seconds=60.0)
    await refused(infer(slow, timeout=0.2), grpc.StatusCode.DEADLINE_EXCEEDED)
    call = infer(slow)
    await _until(lambda: waiting.waiting)
    call.cancel()
    await _until(lambda: waiting.cancelled == before + 2)


async def _until(condition):
    end = asyncio.get_running_loop().time() + 20
    while not condition():
        await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() < end


async def test_connections_that_are_cut_leave_the_server_whole(running):
    def cut():
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0")

    for _ in range(100):
        cut()
    async with aio.insecure_channel(running.address) as channel:
        await caller(channel, "ServerLive")(message("ServerLiveRequest")())


async def test_a_smaller_limit_is_the_limit():
    gen = start(Limits(message=1000))
    running = next(gen)
    try:
        async with aio.insecure_channel(running.address) as channel:
            infer = caller(channel, "ModelInfer")
            await infer(request("identity_fp32", np.zeros((1, 10), np.float32)))
            for size in (300, 30000):
                await refused(
                    infer(request("identity_fp32", np.zeros((1, size), np.float32))),
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                )
    finally:
        gen.close()
