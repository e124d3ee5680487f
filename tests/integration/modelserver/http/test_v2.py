"""The Open Inference Protocol over a real socket: what clients send, and what they read."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlaas.modelserver.tensors import DTYPES, Tensor, from_bytes, to_bytes

INFER = "/v2/models/iris/infer"
ROW = [5.1, 3.5, 1.4, 0.2]


def body(data, datatype="FP32", shape=None, name="x", **extra):
    part = {"name": name, "shape": list(np.shape(data)) if shape is None else shape, "datatype": datatype, "data": data}
    return {"inputs": [part], **extra}


def output(answer, name=None):
    assert answer.status == 200, answer.body
    outputs = answer.json()["outputs"]
    return next(entry for entry in outputs if name in (None, entry["name"]))


class TestServer:
    def test_live_and_ready_say_both_words(self, http):
        assert http.get("/v2/health/live").json() == {"live": True}
        assert http.get("/v2/health/ready").json() == {"live": True, "ready": True}
        assert http.get("/").json() == {"status": "alive"}

    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    def test_server_metadata_with_and_without_a_slash(self, http, path):
        found = http.get(path).json()
        assert found["name"] == "mlaas"
        assert {"binary_tensor_data", "statistics", "model_repository"} <= set(found["extensions"])

    def test_the_models(self, http):
        names = http.get("/v2/models").json()["models"]
        assert {"iris", "org/iris", "simple"} <= set(names)
        assert names == sorted(names)

    def test_nothing_there(self, http):
        for path in ("/nope", "/v2/nope", "/v2/models//", "/v1", "/v2/models/iris/infer/more/than/that", "/v3/models"):
            answer = http.get(path)
            assert answer.status == 404, path
            assert answer.error

    def test_a_path_that_is_no_utf8(self, http):
        assert http.get("/v2/models/%ff").status == 400

    def test_the_wrong_method_names_the_right_one(self, http):
        answer = http.get(INFER)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert http.post("/v2").headers["allow"] == "GET"
        assert http("DELETE", "/v1/models/iris").status == 405

    def test_head_has_the_headers_alone(self, http):
        got, head = http.get("/v2"), http("HEAD", "/v2")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.body == b""


class TestModel:
    def test_metadata_has_real_inputs_and_outputs(self, http):
        found = http.get("/v2/models/iris").json()
        assert found["name"] == "iris"
        assert found["versions"] == ["1"]
        assert found["platform"] == "sklearn"
        assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert [entry["name"] for entry in found["outputs"]] == ["label", "scores"]
        assert found["properties"]["features"] == "sepal_length,sepal_width,petal_length,petal_width"

    def test_ready(self, http):
        assert http.get("/v2/models/iris/ready").json() == {"name": "iris", "ready": True}
        answer = http.get("/v2/models/loading/ready")
        assert answer.status == 503
        assert answer.json()["ready"] is False
        assert http.get("/v2/models/nobody/ready").status == 404

    def test_versions(self, http):
        assert http.get("/v2/models/simple").json()["versions"] == ["1", "2"]
        assert http.get("/v2/models/simple/versions/2/ready").status == 200
        missing = http.get("/v2/models/simple/versions/3")
        assert missing.status == 404
        assert "there are 1, 2" in missing.error
        answer = http.post("/v2/models/iris/versions/1/infer", body([ROW]))
        assert answer.json()["model_version"] == "1"

    def test_a_name_with_a_slash(self, http):
        for path in ("/v2/models/org/iris", "/v2/models/org%2Firis"):
            assert http.get(path).json()["name"] == "org/iris"
            assert http.post(f"{path}/infer", body([ROW])).json()["model_name"] == "org/iris"
        assert http.post("/v2/models/org/iris/versions/1/infer/", body([ROW])).status == 200

    def test_config(self, http):
        found = http.get("/v2/models/iris/config").json()
        assert found["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
        assert found["output"][0] == {"name": "label", "data_type": "TYPE_INT64", "dims": []}
        assert found["max_batch_size"] > 0

    def test_unknown(self, http):
        answer = http.post("/v2/models/nobody/infer", body([ROW]))
        assert answer.status == 404
        assert "nobody" in answer.error

    def test_not_ready(self, http):
        answer = http.post("/v2/models/loading/infer", body([ROW]))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "it is being read" in answer.error


class TestInfer:
    def test_answer(self, http):
        answer = http.post(INFER, body([ROW, ROW[::-1]], id="7"))
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "model_name": "iris",
            "model_version": "1",
            "id": "7",
            "outputs": [{"name": "label", "shape": [2], "datatype": "INT64", "data": [0, 3]}],
        }

    def test_no_id_gives_none(self, http):
        assert "id" not in http.post(INFER, body([ROW])).json()

    @pytest.mark.parametrize(
        "kind",
        ["application/json", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream", None],
    )
    def test_any_content_type_is_json(self, http, kind):
        headers = {"Content-Type": kind} if kind else {}
        assert http("POST", INFER, body([ROW]), headers).status == 200

    def test_flat_data(self, http):
        assert output(http.post(INFER, body([*ROW, *ROW], shape=[2, 4])))["data"] == [0, 0]

    def test_ints_in_a_float_tensor(self, http):
        assert output(http.post(INFER, body([[1, 2.5, 3, 0]])))["data"] == [2]

    def test_zero_rows(self, http):
        found = output(http.post(INFER, body([], shape=[0, 4])))
        assert (found["shape"], found["data"]) == ([0], [])

    def test_any_name_for_the_only_input(self, http):
        assert output(http.post(INFER, body([ROW], name="whatever")))["data"] == [0]

    def test_the_datatype_is_cast(self, http):
        assert output(http.post(INFER, body([ROW], "FP64")))["data"] == [0]
        assert output(http.post(INFER, body([[5, 3, 1, 0]], "INT32")))["data"] == [0]

    def test_asked_outputs_in_their_order(self, http):
        answer = http.post(INFER, body([ROW], outputs=[{"name": "scores"}, {"name": "label"}])).json()
        assert [entry["name"] for entry in answer["outputs"]] == ["scores", "label"]
        assert answer["outputs"][0]["data"] == pytest.approx(ROW[:3], rel=1e-6)

    def test_several_inputs_in_any_order(self, http):
        ones, twos = [[1] * 16], [[2] * 16]
        parts = [
            {"name": name, "shape": [1, 16], "datatype": "INT32", "data": data}
            for name, data in (("INPUT1", twos), ("INPUT0", ones))
        ]
        answer = http.post("/v2/models/simple/infer", {"inputs": parts}).json()
        assert [entry["data"] for entry in answer["outputs"]] == [[3] * 16, [-1] * 16]

    def test_minus_one_is_inferred(self, http):
        assert output(http.post(INFER, body([*ROW, *ROW], shape=[-1, 4])))["shape"] == [2]
        assert http.post("/v2/models/text/infer", body(["a", "b"], "BYTES", [-1])).status == 200

    @pytest.mark.parametrize("shape", [[-1, -1], [-1, 3], [-2, 4], [1, 4.5], [True, 4], [1 << 50, 4], [1] * 40, "1,4"])
    def test_shapes_that_are_none(self, http, shape):
        assert http.post(INFER, body(ROW, shape=shape)).status == 400

    def test_a_shape_bomb(self, http):
        answer = http.post(INFER, body([1.0], shape=[1 << 31, 1 << 31, 1 << 31]))
        assert answer.status == 400
        assert "too large" in answer.error

    def test_not_finite_outputs_are_null(self, http):
        assert output(http.post("/v2/models/inverse/infer", body([0, 4])))["data"] == [None, 0.25]

    def test_texts(self, http):
        answer = http.post("/v2/models/text/infer", body(["été", ""], "BYTES")).json()
        assert answer["outputs"][0]["data"] == ["éTé", ""]
        assert answer["outputs"][1]["data"] == [5, 0]

    def test_nested_texts(self, http):
        found = output(http.post("/v2/models/identity_bytes/infer", body([["a", "b"], ["c", "d"]], "BYTES")))
        assert (found["shape"], found["data"]) == ([2, 2], ["a", "b", "c", "d"])

    def test_booleans(self, http):
        assert output(http.post("/v2/models/identity_bool/infer", body([[True, False]], "BOOL")))["data"] == [
            True,
            False,
        ]

    def test_whole_floats_are_whole_numbers(self, http):
        assert output(http.post("/v2/models/identity_int64/infer", body([[1.0, -2.0]], "INT64")))["data"] == [1, -2]

    def test_the_largest_numbers(self, http):
        for datatype, values in (
            ("UINT64", [[0, 2**64 - 1]]),
            ("INT64", [[-(2**63), 2**63 - 1]]),
            ("INT8", [[-128, 127]]),
            ("FP64", [[1.7976931348623157e308, 5e-324]]),
        ):
            assert (
                output(http.post(f"/v2/models/identity_{datatype.lower()}/infer", body(values, datatype)))["data"]
                == values[0]
            )

    def test_parameters_and_headers_travel(self, http):
        answer = http.post(
            "/v2/models/echo/infer",
            body([1.0], id="a", parameters={"sequence_id": 3, "priority": 1, "sequence_start": True, "note": "x"}),
            X_Request_Id="r1",
        ).json()
        assert answer["outputs"][0]["data"] == [
            "note=x", "priority=1", "sequence_id=3", "sequence_start=True", "x-request-id=r1",
        ]  # fmt: skip
        assert answer["parameters"] == {"id": "a", "said": 5}

    def test_a_time_limit_in_microseconds(self, http):
        slow = body([1.0], parameters={"seconds": 30.0, "timeout": 50_000})
        answer = http.post("/v2/models/waiting/infer", slow)
        assert answer.status == 504
        assert "0.05 s" in answer.error

    def test_a_model_with_a_defect(self, http):
        answer = http.post("/v2/models/failing/infer", body([1.0]))
        assert answer.status == 500
        assert "a defect of the model" in answer.error
        assert "Traceback" not in answer.error

    def test_doubled_keys_count_with_the_last(self, http):
        text = json.dumps(body([ROW]))[:-1] + ', "id": "first", "id": "second"}'
        assert http.post(INFER, text).json()["id"] == "second"


BAD = {
    "empty": b"",
    "no json": b"{",
    "a list": b"[]",
    "a number": b"3",
    "no inputs": b"{}",
    "inputs null": b'{"inputs": null}',
    "an input that is none": b'{"inputs": [3]}',
    "no inputs in the list": b'{"inputs": []}',
    "no shape": b'{"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}',
    "no datatype": b'{"inputs": [{"name": "x", "shape": [1, 4], "data": [1, 2, 3, 4]}]}',
    "no data": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32"}]}',
    "data null": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": null}]}',
    "data text": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": "1234"}]}',
    "data object": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": {}}]}',
    "NaN": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [NaN, 1, 1, 1]}]}',
    "Infinity": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, -Infinity]}]}',
    "null in it": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, null, 1, 1]}]}',
    "text in it": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, "2", 1, 1]}]}',
    "a boolean in it": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, true, 1, 1]}]}',
    "ragged": b'{"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [[1,2,3,4,5],[6,7,8]]}]}',
    "mixed depth": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, [2], 3, 4]}]}',
    "nested otherwise": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [[1, 2], [3, 4]]}]}',
    "too wide": b'{"inputs": [{"name": "x", "shape": [1, 5], "datatype": "FP32", "data": [1, 2, 3, 4, 5]}]}',
    "too few": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3]}]}',
    "one dimension": b'{"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}',
    "no such datatype": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP8", "data": [1, 2, 3, 4]}]}',
    "FP16 in JSON": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP16", "data": [1, 2, 3, 4]}]}',
    "BF16 in JSON": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "BF16", "data": [1, 2, 3, 4]}]}',
    "texts into numbers": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "BYTES", "data": ["1","2","3","4"]}]}',
    "beyond FP32": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1e39, 1, 1, 1]}]}',
    "beyond FP64": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1e400, 1, 1, 1]}]}',
    "beyond INT8": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "INT8", "data": [128, 1, 1, 1]}]}',
    "beyond UINT64": b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "UINT64", "data": [18446744073709551616]}]}',
    "a negative UINT8": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [-1, 1, 1, 1]}]}',
    "a fraction in INT32": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "INT32", "data": [1.5, 1, 1, 1]}]}',
    "too many inputs": b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]},'
    b'{"name": "z", "shape": [1], "datatype": "FP32", "data": [1]}]}',
    "twice the same": b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]},'
    b'{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
    "an id that is a number": b'{"id": 3, "inputs": []}',
    "a parameter that is a list": b'{"parameters": {"a": [1]}, "inputs": []}',
    "an unknown output": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],'
    b'"outputs": [{"name": "nope"}]}',
    "no utf-8": b'{"inputs": [{"name": "\xff", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}',
    "deep": b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep data": b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": '
    + b"[" * 500
    + b"1"
    + b"]" * 500
    + b"}]}",
    "something after it": b'{"inputs": []} trailing',
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_the_clients_fault_and_say_why(http, data):
    answer = http.post(INFER, data)
    assert answer.status == 400, answer.body
    assert len(answer.error) > 15


def test_the_answer_to_a_wrong_width_says_what_was_expected(http):
    text = http.post(INFER, body([[1.0, 2.0]])).error
    assert "[1, 2]" in text
    assert "[-1, 4]" in text
    assert "petal_width" in text


class TestBinary:
    def frame(self, tensors, outputs=None, parameters=None):
        buffers = [to_bytes(tensor) for tensor in tensors]
        document = {
            "inputs": [
                {
                    "name": tensor.name,
                    "shape": tensor.shape,
                    "datatype": tensor.datatype,
                    "parameters": {"binary_data_size": len(buffer)},
                }
                for tensor, buffer in zip(tensors, buffers, strict=True)
            ]
        }
        if outputs is not None:
            document["outputs"] = outputs
        if parameters is not None:
            document["parameters"] = parameters
        text = json.dumps(document).encode()
        return text + b"".join(bytes(buffer) for buffer in buffers), {"Inference-Header-Content-Length": str(len(text))}

    def split(self, answer):
        assert answer.status == 200, answer.body
        length = int(answer.headers["inference-header-content-length"])
        return json.loads(answer.body[:length]), answer.body[length:]

    def test_binary_in_json_out(self, http):
        data, headers = self.frame([Tensor("x", np.array([ROW], np.float32))])
        answer = http("POST", INFER, data, headers)
        assert output(answer)["data"] == [0]
        assert answer.headers["content-type"] == "application/json"

    def test_binary_out_for_all_and_for_one(self, http):
        tensor = Tensor("x", np.array([ROW], np.float32))
        data, headers = self.frame([tensor], parameters={"binary_data_output": True})
        answer = http("POST", INFER, data, headers)
        assert answer.headers["content-type"] == "application/octet-stream"
        document, rest = self.split(answer)
        assert document["outputs"][0]["parameters"] == {"binary_data_size": 8}
        assert np.frombuffer(rest, "<i8").tolist() == [0]
        wanted = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "scores"}]
        data, headers = self.frame([tensor], wanted, {"binary_data_output": True})
        document, rest = self.split(http("POST", INFER, data, headers))
        assert document["outputs"][0]["data"] == [0]
        assert np.frombuffer(rest, "<f4").tolist() == pytest.approx(ROW[:3], rel=1e-6)

    def test_json_in_binary_out(self, http):
        answer = http.post(INFER, body([ROW], outputs=[{"name": "label", "parameters": {"binary_data": True}}]))
        assert self.split(answer)[1] == bytes(8)

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_compressed_both_ways(self, http, coding):
        data, headers = self.frame(
            [Tensor("x", np.array([ROW] * 100, np.float32))], parameters={"binary_data_output": True}
        )
        window = 31 if coding == "gzip" else 15
        stream = zlib.compressobj(6, zlib.DEFLATED, window)
        packed = stream.compress(data) + stream.flush()
        headers |= {"Content-Encoding": coding, "Accept-Encoding": coding}
        answer = http("POST", INFER, packed, headers)
        assert answer.headers["content-encoding"] == coding
        answer.body = zlib.decompress(answer.body, window)
        assert len(self.split(answer)[1]) == 800

    def test_raw_body(self, http):
        answer = http(
            "POST", INFER, np.array([ROW, ROW], np.float32).tobytes(), {"Inference-Header-Content-Length": "0"}
        )
        document, rest = self.split(answer)
        assert document["outputs"][0]["shape"] == [2]
        assert len(rest) == 16
        text = http("POST", "/v2/models/text/infer", "hello", {"Inference-Header-Content-Length": "0"})
        assert self.split(text)[1].startswith(b"\x05\0\0\0HELLO")

    def test_bf16(self, http):
        tensor = Tensor("x", np.array([0x3F80, 0x4000], "<u2"), "BF16")  # 1, 2
        data, headers = self.frame([tensor], parameters={"binary_data_output": True})
        assert self.split(http("POST", "/v2/models/half/infer", data, headers))[1] == b"\x00\x3f\x80\x3f"  # 0.5, 1
        data, headers = self.frame([tensor])
        answer = http("POST", "/v2/models/half/infer", data, headers)
        assert answer.status == 400
        assert "binary_data" in answer.error

    def test_no_utf8_in_an_answer_needs_binary(self, http):
        array = np.empty((1, 1), dtype=object)
        array[0, 0] = b"\xff\xfe"
        data, headers = self.frame([Tensor("x", array)])
        assert http("POST", "/v2/models/identity_bytes/infer", data, headers).status == 400
        data, headers = self.frame([Tensor("x", array)], parameters={"binary_data_output": True})
        assert self.split(http("POST", "/v2/models/identity_bytes/infer", data, headers))[1] == b"\x02\0\0\0\xff\xfe"

    @pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999", "1000", "", "0x10", "5 6"])
    def test_a_header_length_that_is_none(self, http, length):
        data, _ = self.frame([Tensor("x", np.array([ROW], np.float32))])
        assert http("POST", INFER, data[:50], {"Inference-Header-Content-Length": length}).status == 400

    @pytest.mark.parametrize("change", [-4, 4, -1, 10**9])
    def test_buffers_of_the_wrong_size(self, http, change):
        data, headers = self.frame([Tensor("x", np.array([ROW], np.float32))])
        size = int(headers["Inference-Header-Content-Length"])
        text = data[:size].replace(b'"binary_data_size": 16', b'"binary_data_size": %d' % (16 + change))
        rest = data[size:] + b"\0" * max(0, min(change, 100))
        assert http("POST", INFER, text + rest, {"Inference-Header-Content-Length": str(len(text))}).status == 400

    def test_bytes_that_nobody_wants(self, http):
        data, headers = self.frame([Tensor("x", np.array([ROW], np.float32))])
        answer = http("POST", INFER, data + b"more", headers)
        assert answer.status == 400
        assert "4 bytes" in answer.error

    def test_a_length_inside_bytes_past_the_end(self, http):
        text = json.dumps(
            {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}]}
        ).encode()
        answer = http(
            "POST",
            "/v2/models/text/infer",
            text + b"\xff\xff\xff\xffab",
            {"Inference-Header-Content-Length": str(len(text))},
        )
        assert answer.status == 400

    def test_data_twice(self, http):
        text = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "shape": [1, 4],
                        "datatype": "FP32",
                        "data": ROW,
                        "parameters": {"binary_data_size": 16},
                    }
                ]
            }
        ).encode()
        answer = http("POST", INFER, text + bytes(16), {"Inference-Header-Content-Length": str(len(text))})
        assert answer.status == 400


_SAFE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_NUMERIC = sorted(set(DTYPES) - {"BYTES", "BF16"})


@st.composite
def tensors(draw):
    datatype = draw(st.sampled_from(_NUMERIC))
    shape = draw(arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6))
    return datatype, draw(arrays.arrays(DTYPES[datatype], shape))


@_SAFE
@given(tensors())
def test_any_tensor_comes_back_bit_for_bit_in_binary(http, tensor):
    datatype, array = tensor
    data, headers = TestBinary().frame([Tensor("x", array, datatype)], parameters={"binary_data_output": True})
    document, rest = TestBinary().split(http("POST", f"/v2/models/identity_{datatype.lower()}/infer", data, headers))
    found = from_bytes("y", datatype, document["outputs"][0]["shape"], rest)
    assert found.array.tobytes() == array.tobytes()


@_SAFE
@given(tensors(), st.booleans())
def test_any_tensor_comes_back_equal_in_json(http, tensor, flat):
    datatype, array = tensor
    if datatype == "FP16" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        return
    data = array.reshape(-1).tolist() if flat else array.tolist()
    found = output(http.post(f"/v2/models/identity_{datatype.lower()}/infer", body(data, datatype, list(array.shape))))
    assert found["shape"] == list(array.shape)
    assert np.array(found["data"], dtype=array.dtype).tobytes() == array.reshape(-1).tobytes()


@_SAFE
@given(st.lists(st.lists(st.text(max_size=20), min_size=2, max_size=2), max_size=4))
def test_any_text_comes_back(http, texts):
    found = output(http.post("/v2/models/identity_bytes/infer", body(texts, "BYTES", [len(texts), 2])))
    assert found["data"] == [text for row in texts for text in row]


class TestLarge:
    """Bodies that take the other reader: the same answers and refusals."""

    def rows(self, count=2000):
        return np.random.default_rng(0).random((count, 4)).round(4).astype(np.float32).tolist()

    @pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " : ")])
    def test_nested_and_flat(self, http, separators):
        rows = self.rows()
        wanted = np.array(rows).argmax(axis=1).tolist()
        for data in (rows, [value for row in rows for value in row]):
            text = json.dumps(body(data, shape=[len(rows), 4]), separators=separators)
            assert output(http.post(INFER, text))["data"] == wanted

    def test_three_dimensions(self, http):
        data = np.arange(8000).reshape(20, 20, 20)
        answer = http.post("/v2/models/identity_int32/infer", body(data.tolist(), "INT32", list(data.shape)))
        assert "[20, 20, 20]" in answer.error  # read as such; the model takes two dimensions

    @pytest.mark.parametrize("value", [None, "1", True, [], [1.0], [[1.0], 2.0], {}, 1e39], ids=str)
    def test_one_bad_value(self, http, value):
        rows = self.rows()
        rows[1500][2] = value
        answer = http.post(INFER, json.dumps(body(rows, shape=[2000, 4])))
        assert answer.status == 400, answer.body

    def test_one_short_and_one_long_row(self, http):
        rows = self.rows()
        rows[7], rows[8] = rows[7][:3], [*rows[8], 1.0]
        assert http.post(INFER, body(rows, shape=[2000, 4])).status == 400

    def test_a_row_in_a_row(self, http):
        rows = self.rows()
        rows[5] = [rows[5][0], [rows[5][1]], *rows[5][2:]]
        assert http.post(INFER, json.dumps(body(rows, shape=[2000, 4]))).status == 400

    def test_broken_at_the_end(self, http):
        text = json.dumps(body(self.rows()))
        for data in (text[:-1], text[:-3] + "]}", text + "]", text.replace("0.5", "NaN", 1)):
            assert http.post(INFER, data).status == 400

    def test_doubled_keys_count_with_the_last(self, http):
        text = json.dumps(body(self.rows()))[:-1] + ', "id": "first", "id": "second"}'
        assert http.post(INFER, text).json()["id"] == "second"

    def test_narrow_integers(self, http):
        data = np.random.default_rng(0).integers(-128, 128, (3000, 4)).tolist()
        assert (
            output(http.post("/v2/models/identity_int8/infer", body(data, "INT8")))["data"] == np.ravel(data).tolist()
        )
        data[100][1] = 128
        assert http.post("/v2/models/identity_int8/infer", body(data, "INT8")).status == 400

    def test_megabytes_in_their_own_buffer(self, http):
        array = np.random.default_rng(0).random((50_000, 4)).astype(np.float32)
        data, headers = TestBinary().frame(
            [Tensor("x", array)], [{"name": "scores", "parameters": {"binary_data": True}}]
        )
        _, rest = TestBinary().split(http("POST", INFER, data, headers))
        assert rest == array[:, :3].tobytes()
