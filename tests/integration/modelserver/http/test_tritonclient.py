"""Triton's own HTTP clients, unchanged: every call that a server without a GPU can serve."""

import contextlib
import uuid

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

LEFT = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)


@pytest.fixture
def client(http):
    with triton.InferenceServerClient(http.base) as found:
        yield found


def pair(binary=True, datatype="INT32", left=LEFT, right=ONES):
    inputs = []
    for name, array in (("INPUT0", left), ("INPUT1", right)):
        part = triton.InferInput(name, list(array.shape), datatype)
        part.set_data_from_numpy(array, binary_data=binary)
        inputs.append(part)
    return inputs


def texts(array):
    return np.array([str(item).encode() for item in array.flat], dtype=object).reshape(array.shape)


class TestServer:
    def test_health_and_metadata(self, client):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("simple")
        assert client.is_model_ready("simple", "2")
        assert not client.is_model_ready("loading")
        assert not client.is_model_ready("nobody")
        assert client.get_server_metadata()["name"] == "mlaas"
        assert client.get_model_metadata("simple")["inputs"][0] == {
            "name": "INPUT0",
            "datatype": "INT32",
            "shape": [-1, 16],
        }
        assert client.get_model_config("simple")["input"][0]["data_type"] == "TYPE_INT32"

    def test_repository(self, client):
        assert {"name": "simple", "version": "1", "state": "READY", "reason": ""} in client.get_model_repository_index()
        client.unload_model("text")
        assert not client.is_model_ready("text")
        client.load_model("text")
        assert client.is_model_ready("text")
        with pytest.raises(InferenceServerException, match="nobody"):
            client.load_model("nobody")

    def test_statistics(self, client):
        client.infer("simple", pair())
        found = client.get_inference_statistics("simple")["model_stats"]
        assert sum(entry["inference_count"] for entry in found) >= 1
        assert len(client.get_inference_statistics()["model_stats"]) > 10

    def test_trace_and_log_settings(self, client):
        assert client.get_trace_settings()["trace_level"] == ["OFF"]
        assert client.get_trace_settings("simple")["trace_rate"] == "0"
        assert client.get_log_settings()["log_info"] is True
        with pytest.raises(InferenceServerException, match="cannot be changed"):
            client.update_log_settings({"log_verbose_level": 2})
        with pytest.raises(InferenceServerException, match="cannot be changed"):
            client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"})

    def test_cuda_memory_is_refused_in_words(self, client):
        assert client.get_cuda_shared_memory_status() == []
        with pytest.raises(InferenceServerException, match="not served"):
            client.register_cuda_shared_memory("r", b"handle", 0, 8)


class TestInfer:
    @pytest.mark.parametrize("binary_in", [True, False])
    @pytest.mark.parametrize("binary_out", [True, False])
    @pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
    def test_sum_and_difference(self, client, binary_in, binary_out, coding):
        outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("OUTPUT0", "OUTPUT1")]
        result = client.infer(
            "simple",
            pair(binary_in),
            outputs=outputs,
            request_id="7",
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        assert result.get_response()["id"] == "7"
        assert result.as_numpy("OUTPUT0").tolist() == (LEFT + 1).tolist()
        assert result.as_numpy("OUTPUT1").tolist() == (LEFT - 1).tolist()

    @pytest.mark.parametrize("binary", [True, False])
    def test_strings(self, client, binary):
        result = client.infer("simple_string", pair(binary, "BYTES", texts(LEFT), texts(ONES)))
        assert [int(item) for item in result.as_numpy("OUTPUT0").flat] == (LEFT + 1).reshape(-1).tolist()
        assert [int(item) for item in result.as_numpy("OUTPUT1").flat] == (LEFT - 1).reshape(-1).tolist()

    def test_many_requests_at_once(self, http):
        with triton.InferenceServerClient(http.base, concurrency=4) as client:
            waiting = [client.async_infer("simple", pair(right=ONES * number)) for number in range(20)]
            for number, each in enumerate(waiting):
                assert each.get_result().as_numpy("OUTPUT0").tolist() == (LEFT + number).tolist()

    def test_versions_sequences_priority_parameters(self, client):
        result = client.infer(
            "simple",
            pair(),
            model_version="2",
            sequence_id=5,
            sequence_start=True,
            sequence_end=True,
            priority=1,
            timeout=1_000_000,
            headers={"x-request-id": "r"},
            query_params={"a": "b"},
            parameters={"note": "n"},
        )
        assert result.get_response()["model_version"] == "2"

    def test_a_time_limit(self, client):
        part = triton.InferInput("x", [1], "FP32")
        part.set_data_from_numpy(np.ones(1, np.float32))
        with pytest.raises(InferenceServerException, match="did not answer") as caught:
            client.infer("waiting", [part], timeout=20_000, parameters={"seconds": 20})
        assert caught.value.status() == "504"

    def test_classes(self, client):
        part = triton.InferInput("x", [1, 4], "FP32")
        part.set_data_from_numpy(np.array([[5.0, 3.0, 1.0, 0.0]], np.float32))
        result = client.infer("iris", [part], outputs=[triton.InferRequestedOutput("scores", class_count=2)])
        assert result.as_numpy("scores").reshape(-1).tolist() == [b"5.000000:0:setosa", b"3.000000:1:versicolor"]

    @pytest.mark.parametrize("datatype", ["FP16", "BF16"])
    def test_half_floats(self, client, datatype):
        array = np.array([[1.0, 2.5], [-3.0, 0.0]], np.float16 if datatype == "FP16" else ml_dtypes.bfloat16)
        part = triton.InferInput("x", [2, 2], datatype)
        part.set_data_from_numpy(array)
        result = client.infer(f"identity_{datatype.lower()}", [part])
        assert result.as_numpy("y").astype(np.float32).tolist() == array.astype(np.float32).tolist()

    def test_the_static_halves_of_the_client(self, http):
        body, size = triton.InferenceServerClient.generate_request_body(pair())
        answer = http("POST", "/v2/models/simple/infer", body, {"Inference-Header-Content-Length": str(size)})
        header = answer.headers.get("inference-header-content-length")
        result = triton.InferenceServerClient.parse_response_body(
            answer.body, header_length=int(header) if header else None
        )
        assert result.as_numpy("OUTPUT0").tolist() == (LEFT + 1).tolist()

    @pytest.mark.parametrize(
        ("model", "inputs", "words"),
        [
            ("nobody", pair(), "unknown model 'nobody'"),
            ("simple", pair()[:1], "INPUT1"),
            ("simple", pair(left=LEFT[:, :8]), r"\[1, 8\]"),
            ("loading", pair(), "being read"),
        ],
    )
    def test_errors_reach_the_client_in_words(self, client, model, inputs, words):
        with pytest.raises(InferenceServerException, match=words):
            client.infer(model, inputs)


def test_system_shared_memory(client):
    """Triton's `simple_http_shm_client`, and what follows when a region is let go."""
    size = LEFT.nbytes
    regions = []
    keys = [f"/mlaas-{uuid.uuid4().hex}" for _ in range(2)]
    try:
        for name, key in zip(("in", "out"), keys, strict=True):
            region = shm.create_shared_memory_region(name, key, 2 * size)
            regions.append(region)
            client.register_system_shared_memory(name, key, 2 * size)
        shm.set_shared_memory_region(regions[0], [LEFT, ONES])
        assert [each["name"] for each in client.get_system_shared_memory_status()] == ["in", "out"]
        inputs = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
        inputs[0].set_shared_memory("in", size)
        inputs[1].set_shared_memory("in", size, offset=size)
        outputs = [triton.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
        outputs[0].set_shared_memory("out", size)
        outputs[1].set_shared_memory("out", size, offset=size)
        result = client.infer("simple", inputs, outputs=outputs)
        assert result.get_output("OUTPUT0")["parameters"]["shared_memory_region"] == "out"
        assert shm.get_contents_as_numpy(regions[1], np.int32, [1, 16]).tolist() == (LEFT + 1).tolist()
        assert shm.get_contents_as_numpy(regions[1], np.int32, [1, 16], size).tolist() == (LEFT - 1).tolist()
        client.unregister_system_shared_memory("in")
        with pytest.raises(InferenceServerException, match="no shared memory region 'in'"):
            client.infer("simple", inputs, outputs=outputs)
    finally:
        client.unregister_system_shared_memory()
        for region in regions:
            with contextlib.suppress(shm.SharedMemoryException):
                shm.destroy_shared_memory_region(region)


async def test_the_aio_client(http):
    async with aio.InferenceServerClient(http.base) as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        assert (await client.get_server_metadata())["name"] == "mlaas"
        assert (await client.get_model_metadata("simple"))["platform"] == "mlaas"
        assert (await client.get_model_config("simple"))["name"] == "simple"
        assert await client.get_model_repository_index()
        assert (await client.get_inference_statistics("simple"))["model_stats"]
        assert await client.get_system_shared_memory_status() == []
        for coding in (None, "gzip", "deflate"):
            result = await client.infer(
                "simple", pair(), request_compression_algorithm=coding, response_compression_algorithm=coding
            )
            assert result.as_numpy("OUTPUT0").tolist() == (LEFT + 1).tolist()
        result = await client.infer("simple_string", pair(False, "BYTES", texts(LEFT), texts(ONES)))
        assert [int(item) for item in result.as_numpy("OUTPUT0").flat] == (LEFT + 1).reshape(-1).tolist()
        with pytest.raises(InferenceServerException, match="nobody"):
            await client.infer("nobody", pair())


def test_a_base_path_names_the_project(http):
    with triton.InferenceServerClient(f"{http.base}/projects/physics") as client:
        assert client.is_model_ready("iris")
        assert not client.is_model_ready("simple")
