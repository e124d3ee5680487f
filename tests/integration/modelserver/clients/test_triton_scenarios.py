"""The public `simple_*` examples of Triton's Python clients (triton-inference-server/client, src/python/examples), each written
anew as a test against `mlaas serve`. `SCENARIOS` says which test stands for which example, and what cannot be served here.
"""

import re
import uuid
from pathlib import Path

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm
from tests.integration.modelserver.clients import models
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, serialized_byte_size

LEFT = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)
VALUES = [11, 7, 5, 3, 2, 0, 1]

_IMAGES = "not served: needs Triton's pre-trained image models; its calls are those of `infer` and `metadata`"
_CUDA = "test_cuda_shared_memory_is_refused"
_LLM = "not served: vLLM's own back end"

SCENARIOS = {
    # example -> the test that stands for it, here or in the file before the colon, or why there is none
    "ensemble_image_client": _IMAGES,
    "grpc_client": "test_triton_grpc:test_the_stub_alone",
    "grpc_explicit_byte_content_client": "test_triton_grpc:test_typed_contents_of_texts",
    "grpc_explicit_int8_content_client": "test_triton_grpc:test_typed_contents_of_small_numbers",
    "grpc_explicit_int_content_client": "test_triton_grpc:test_typed_contents",
    "grpc_image_client": _IMAGES,
    "image_client": _IMAGES,
    "memory_growth_test": "test_many_requests_do_not_make_the_server_grow",
    "reuse_infer_objects_client": "test_inputs_and_outputs_are_used_again",
    "simple_grpc_aio_cudashm_client": _CUDA,
    "simple_grpc_aio_custom_args_client": "test_triton_grpc:test_custom_channel_arguments",
    "simple_grpc_aio_health_metadata": "test_health_and_metadata",
    "simple_grpc_aio_infer_client": "test_infer",
    "simple_grpc_aio_keepalive_client": "test_triton_grpc:test_keepalive",
    "simple_grpc_aio_model_control": "test_model_control",
    "simple_grpc_aio_sequence_stream_infer_client": "test_triton_grpc:test_sequences_on_an_asyncio_stream",
    "simple_grpc_aio_sequence_sync_infer_client": "test_sequences",
    "simple_grpc_aio_shm_client": "test_shared_memory",
    "simple_grpc_aio_shm_string_client": "test_shared_memory_of_texts",
    "simple_grpc_aio_string_infer_client": "test_infer_texts",
    "simple_grpc_async_infer_client": "test_triton_grpc:test_callbacks",
    "simple_grpc_cudashm_client": _CUDA,
    "simple_grpc_custom_args_client": "test_triton_grpc:test_custom_channel_arguments",
    "simple_grpc_custom_repeat": "test_triton_grpc:test_a_decoupled_model",
    "simple_grpc_health_metadata": "test_health_and_metadata",
    "simple_grpc_infer_client": "test_infer",
    "simple_grpc_keepalive_client": "test_triton_grpc:test_keepalive",
    "simple_grpc_model_control": "test_model_control",
    "simple_grpc_sequence_stream_infer_client": "test_triton_grpc:test_sequences_on_a_stream",
    "simple_grpc_sequence_sync_infer_client": "test_sequences",
    "simple_grpc_shm_client": "test_shared_memory",
    "simple_grpc_shm_string_client": "test_shared_memory_of_texts",
    "simple_grpc_string_infer_client": "test_infer_texts",
    "simple_http_aio_cudashm_client": _CUDA,
    "simple_http_aio_health_metadata": "test_health_and_metadata",
    "simple_http_aio_infer_client": "test_infer",
    "simple_http_aio_model_control": "test_model_control",
    "simple_http_aio_sequence_sync_infer_client": "test_sequences",
    "simple_http_aio_shm_client": "test_shared_memory",
    "simple_http_aio_shm_string_client": "test_shared_memory_of_texts",
    "simple_http_aio_string_infer_client": "test_infer_texts",
    "simple_http_async_infer_client": "test_many_requests_at_once_over_http",
    "simple_http_cudashm_client": _CUDA,
    "simple_http_health_metadata": "test_health_and_metadata",
    "simple_http_infer_client": "test_infer",
    "simple_http_model_control": "test_model_control",
    "simple_http_sequence_sync_infer_client": "test_sequences",
    "simple_http_shm_client": "test_shared_memory",
    "simple_http_shm_string_client": "test_shared_memory_of_texts",
    "simple_http_string_infer_client": "test_infer_texts",
    "vllm_client": _LLM,
}


def test_every_example_has_its_test_or_a_reason():
    assert len(SCENARIOS) == 51
    served = [place for place in SCENARIOS.values() if not place.startswith("not served: ")]
    assert len(served) == 47
    for place in served:
        file, _, test = place.rpartition(":")
        text = Path(__file__).with_name(f"{file or Path(__file__).stem}.py").read_text()
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), place


def pair(module, left=LEFT, right=ONES, datatype="INT32"):
    found = [module.InferInput(name, list(left.shape), datatype) for name in ("INPUT0", "INPUT1")]
    for tensor, array in zip(found, (left, right), strict=True):
        tensor.set_data_from_numpy(array)
    return found


def both(module):
    return [module.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]


def texts(array):
    return np.array([str(item).encode() for item in array.flat], dtype=object).reshape(array.shape)


def text_of(error):
    return f"{error.value.status()} {error.value.message()}"


def is_sum_and_difference(result, left=LEFT, right=ONES):
    return [result.as_numpy(name).tolist() for name in ("OUTPUT0", "OUTPUT1")] == [
        (left + right).tolist(),
        (left - right).tolist(),
    ]


def field(document, *names):
    """A value of an answer, which is a message of gRPC's or a document of HTTP's."""
    for name in names:
        document = document[name] if isinstance(document, dict) else getattr(document, name)
    return document


def test_health_and_metadata(triton):
    headers = {"test": "1", "dummy": "2"}
    asked = {"query_params": {"test_1": 1, "test_2": 2}} if triton.wire == "http" else {}
    assert triton.is_server_live(headers=headers, **asked)
    assert triton.is_server_ready()
    assert triton.is_model_ready("simple")
    assert field(triton.get_server_metadata(), "name") == "mlaas"  # not "triton", which the example looks for
    metadata = triton.get_model_metadata("simple", headers=headers, **asked)
    assert field(metadata, "name") == "simple"
    assert [field(tensor, "datatype") for tensor in field(metadata, "inputs")] == ["INT32", "INT32"]
    config = triton.get_model_config("simple")
    assert field(config, "name") if triton.wire == "http" else field(config, "config", "name") == "simple"
    with pytest.raises(InferenceServerException, match="Request for unknown model"):
        triton.get_model_metadata("wrong_model_name")


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_infer(triton, coding):
    coded = {"compression_algorithm": coding}
    if triton.wire == "http":
        coded = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    outputs = both(triton.module)
    assert is_sum_and_difference(
        triton.infer("simple", pair(triton.module), outputs=outputs, headers={"test": "1"}, **coded)
    )
    assert is_sum_and_difference(triton.infer("simple", pair(triton.module), **coded))  # both outputs, unasked
    found = triton.infer("simple", pair(triton.module), outputs=outputs[:1], request_id="one", **coded)
    assert found.as_numpy("OUTPUT1") is None
    assert field(found.get_response(), "id") == "one"
    statistics = triton.get_inference_statistics("simple")
    assert len(field(statistics, "model_stats")) == 1
    assert int(field(statistics, "model_stats")[0]["inference_count"] if triton.wire == "http"
               else statistics.model_stats[0].inference_count) >= 3  # fmt: skip
    with pytest.raises(InferenceServerException) as error:
        triton.get_inference_statistics("wrong_model_name")
    assert "Request for unknown model" in text_of(error)


def test_infer_texts(triton):
    result = triton.infer(
        "simple_string", pair(triton.module, texts(LEFT), texts(ONES), "BYTES"), outputs=both(triton.module)
    )
    for name, wanted in (("OUTPUT0", LEFT + ONES), ("OUTPUT1", LEFT - ONES)):
        assert [int(item) for item in result.as_numpy(name).flat] == wanted.reshape(-1).tolist()
    odd = np.array([[b"", b"a", b"\x00\xff", "\N{GREEK SMALL LETTER MU}".encode()] * 4], dtype=object)
    tensor = triton.module.InferInput("INPUT0", [1, 16], "BYTES")
    tensor.set_data_from_numpy(odd)
    assert triton.infer("simple_identity", [tensor]).as_numpy("OUTPUT0").tolist() == odd.tolist()


def test_many_requests_at_once_over_http(connect):
    client = connect("http", concurrency=4)
    waiting = [client.async_infer("simple", pair(client.module, right=ONES * number)) for number in range(16)]
    for number, each in enumerate(waiting):
        assert is_sum_and_difference(each.get_result(), right=ONES * number)


@pytest.fixture
def regions(triton):
    """Makes shared memory regions by name and size and registers them; all are let go at the end."""
    made = {}

    def make(**sizes):
        for name, size in sizes.items():
            key = f"/mlaas-{uuid.uuid4().hex}"
            made[name] = shm.create_shared_memory_region(name, key, size)
            triton.register_system_shared_memory(name, key, size)
        return made

    triton.unregister_system_shared_memory()
    triton.unregister_cuda_shared_memory()
    yield make
    triton.unregister_system_shared_memory()
    for region in made.values():
        shm.destroy_shared_memory_region(region)


def names_of(status):
    return sorted(each["name"] for each in status) if isinstance(status, list) else sorted(status.regions)


def placed(module, datatype, sizes, shape=(1, 16)):
    """The two inputs and the two outputs in the regions named in `sizes`, in this order."""
    inputs = [module.InferInput(name, list(shape), datatype) for name in ("INPUT0", "INPUT1")]
    tensors = [*inputs, *both(module)]
    for tensor, (region, size) in zip(tensors, sizes.items(), strict=True):
        tensor.set_shared_memory(region, size)
    return inputs, tensors[2:]


def test_shared_memory(triton, regions):
    sizes = dict.fromkeys(("in0", "in1", "out0", "out1"), LEFT.nbytes)
    made = regions(**sizes)
    shm.set_shared_memory_region(made["in0"], [LEFT])
    shm.set_shared_memory_region(made["in1"], [ONES])
    inputs, outputs = placed(triton.module, "INT32", sizes)
    result = triton.infer("simple", inputs, outputs=outputs)
    for name, region, wanted in (("OUTPUT0", "out0", LEFT + ONES), ("OUTPUT1", "out1", LEFT - ONES)):
        output = result.get_output(name)
        assert field(output, "datatype") == "INT32"
        found = shm.get_contents_as_numpy(made[region], np.int32, field(output, "shape"))
        assert found.tolist() == wanted.tolist()
    status = triton.get_system_shared_memory_status()
    assert names_of(status) == ["in0", "in1", "out0", "out1"]
    assert names_of(triton.get_system_shared_memory_status("in1")) == ["in1"]
    triton.unregister_system_shared_memory("in1")
    with pytest.raises(InferenceServerException, match="no shared memory region 'in1'"):
        triton.infer("simple", inputs, outputs=outputs)
    with pytest.raises(InferenceServerException, match="no shared memory region"):
        triton.get_system_shared_memory_status("in1")


def test_some_tensors_in_shared_memory_and_some_not(triton, regions):
    """In one region, one behind the other; the rest of the tensors in the message."""
    made = regions(both=2 * LEFT.nbytes)
    shm.set_shared_memory_region(made["both"], [np.zeros_like(LEFT), LEFT])
    inputs = pair(triton.module)
    inputs[0].set_shared_memory("both", LEFT.nbytes, offset=LEFT.nbytes)
    outputs = both(triton.module)
    outputs[0].set_shared_memory("both", LEFT.nbytes)
    result = triton.infer("simple", inputs, outputs=outputs)
    assert result.as_numpy("OUTPUT1").tolist() == (LEFT - ONES).tolist()
    assert shm.get_contents_as_numpy(made["both"], np.int32, [1, 16]).tolist() == (LEFT + ONES).tolist()
    outputs[0].set_shared_memory("both", LEFT.nbytes - 4)
    with pytest.raises(InferenceServerException, match="64 bytes; 60 were given"):
        triton.infer("simple", inputs, outputs=outputs)
    inputs[0].set_shared_memory("both", LEFT.nbytes, offset=LEFT.nbytes + 4)
    with pytest.raises(InferenceServerException, match="not inside the shared memory region"):
        triton.infer("simple", inputs)


def test_what_cannot_be_registered(triton, regions):
    made = regions(there=64)
    for name, key, size, words in (
        ("there", "/whatever", 64, "registered already"),
        ("other", f"/mlaas-{uuid.uuid4().hex}", 64, "no shared memory object"),
        ("other", "/../../etc/passwd", 64, "no key"),
        ("other", "/x", 0, "byte_size above 0"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            triton.register_system_shared_memory(name, key, size)
    assert list(made) == ["there"]


def test_shared_memory_of_texts(triton, regions):
    inputs = [serialize_byte_tensor(texts(array)) for array in (LEFT, ONES)]
    wanted = [texts(LEFT + ONES), texts(LEFT - ONES)]
    sizes = dict(
        zip(
            ("in0", "in1", "out0", "out1"),
            map(serialized_byte_size, [*inputs, *map(serialize_byte_tensor, wanted)]),
            strict=True,
        )
    )
    made = regions(**sizes)
    for region, data in zip(("in0", "in1"), inputs, strict=True):
        shm.set_shared_memory_region(made[region], [data])
    asked, outputs = placed(triton.module, "BYTES", sizes)
    triton.infer("simple_string", asked, outputs=outputs)
    for region, array in zip(("out0", "out1"), wanted, strict=True):
        assert shm.get_contents_as_numpy(made[region], np.object_, [1, 16]).tolist() == array.tolist()


def test_inputs_and_outputs_are_used_again(triton, regions):
    """With shared memory, without, and with it again."""
    sizes = dict.fromkeys(("in0", "in1", "out0", "out1"), LEFT.nbytes)
    made = regions(**sizes)
    shm.set_shared_memory_region(made["in0"], [LEFT])
    shm.set_shared_memory_region(made["in1"], [ONES])
    inputs, outputs = placed(triton.module, "INT32", sizes)
    for shared in (True, False, True):
        for tensor, (region, size) in zip([*inputs, *outputs], sizes.items(), strict=True):
            if shared:
                tensor.set_shared_memory(region, size)
        if not shared:
            inputs[0].set_data_from_numpy(LEFT)
            inputs[1].set_data_from_numpy(2 * ONES)
            for output in outputs:
                output.unset_shared_memory()
        result = triton.infer("simple", inputs, outputs=outputs)
        if shared:
            assert shm.get_contents_as_numpy(made["out0"], np.int32, [1, 16]).tolist() == (LEFT + ONES).tolist()
            assert shm.get_contents_as_numpy(made["out1"], np.int32, [1, 16]).tolist() == (LEFT - ONES).tolist()
        else:
            assert is_sum_and_difference(result, right=2 * ONES)


def test_cuda_shared_memory_is_refused(triton):
    """A server without a GPU has no such region, takes none, and says what to do."""
    assert names_of(triton.get_cuda_shared_memory_status()) == []
    triton.unregister_cuda_shared_memory()
    with pytest.raises(InferenceServerException, match="system shared memory"):
        triton.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 64)


def test_model_control(triton):
    """Also what the example does with `config`, and what it may not do: bring a model's files with the request."""
    index = triton.get_model_repository_index()
    assert {field(each, "name") for each in (index if triton.wire == "http" else index.models)} == set(models.NAMES)
    triton.load_model("simple")
    assert triton.is_model_ready("simple")
    for config in ('"parameters": {"config": {{"max_batch_size": "16"}}}', '{"max_batch_size": 0}', '{"backend": "x"}'):
        with pytest.raises(InferenceServerException, match="failed to load"):
            triton.load_model("simple", config=config)
    triton.load_model("simple", config='{"max_batch_size":"16"}')
    config = triton.get_model_config("simple")
    assert field(config, *(() if triton.wire == "http" else ("config",)), "max_batch_size") == 16
    assert is_sum_and_difference(triton.infer("simple", pair(triton.module)))
    triton.unload_model("simple")
    assert not triton.is_model_ready("simple")
    with pytest.raises(InferenceServerException, match="not ready"):
        triton.infer("simple", pair(triton.module))
    for path in ("file:1/model.onnx", f"file:{'A' * 256}"):
        with pytest.raises(InferenceServerException, match="failed to load"):
            triton.load_model("simple", config="{}", files={path: b"a"})
    assert triton.is_server_live()
    triton.load_model("simple")
    assert triton.is_model_ready("simple")
    with pytest.raises(InferenceServerException, match="failed to load"):
        triton.load_model("wrong_model_name")


def test_settings(triton):
    settings = triton.get_trace_settings()
    assert (settings["trace_level"] if triton.wire == "http" else list(settings.settings["trace_level"].value)) == [
        "OFF"
    ]
    triton.update_trace_settings("simple", {"trace_level": "OFF", "trace_rate": None})
    with pytest.raises(InferenceServerException, match="cannot be changed"):
        triton.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    with pytest.raises(InferenceServerException, match="unknown model"):
        triton.get_trace_settings("wrong_model_name")
    log = triton.get_log_settings()
    assert (log["log_verbose_level"] if triton.wire == "http" else log.settings["log_verbose_level"].uint32_param) == 0
    triton.update_log_settings({"log_info": True})
    with pytest.raises(InferenceServerException, match="cannot be changed"):
        triton.update_log_settings({"log_verbose_level": 2})
    with pytest.raises(InferenceServerException, match="no setting 'log_nothing'"):
        triton.update_log_settings({"log_nothing": True})


@pytest.mark.parametrize("sequence", [1000, 2**63 - 1, "b9c2"], ids=["small", "large", "text"])
def test_sequences(triton, sequence):
    """`sequence_id`, `_start` and `_end` reach a model that takes parameters, in one process, in the order they were sent.
    Triton's sequence batcher is not there: no control tensors, no `sequence_idle` time-out, no correlation across replicas."""

    def send(model, value, start, end):
        tensor = triton.module.InferInput("INPUT", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.full((1, 1), value, np.int32))
        outputs = [triton.module.InferRequestedOutput("OUTPUT")]
        named = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
        return triton.infer(model, [tensor], outputs=outputs, **named).as_numpy("OUTPUT").item()

    def all_of(model, values):
        last = len(values) - 1
        return [send(model, value, place == 0, place == last) for place, value in enumerate(values)]

    assert all_of("simple_sequence", [0, *VALUES]) == [1, *VALUES]
    assert all_of("simple_sequence", [100, *(-value for value in VALUES)]) == [101, *(-value for value in VALUES)]
    if sequence == 1000:
        assert all_of("simple_dyna_sequence", [20, 3, 4]) == [20, 23, 27 + sequence]


def test_many_requests_do_not_make_the_server_grow(connect, serving):
    """Resident memory of all the server's processes, after a warm-up and 2,000 requests later."""
    import psutil

    def resident():
        process = psutil.Process(serving.process.pid)
        return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])

    clients = [connect("http"), connect("grpc")]

    def ask(times):
        for _ in range(times):
            for client in clients:
                assert is_sum_and_difference(client.infer("simple", pair(client.module)))

    ask(200)
    before = resident()
    ask(1000)
    assert resident() - before < 4 << 20
