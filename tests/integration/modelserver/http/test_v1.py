"""V1 over a real socket: rows in every shape that clients write them, and CloudEvents."""

import base64
import gzip
import json

import pytest

PREDICT = "/v1/models/iris:predict"
ROW = [5.1, 3.5, 1.4, 0.2]
NAMED = dict(zip(("petal_width", "sepal_length", "petal_length", "sepal_width"), (0.2, 5.1, 1.4, 3.5), strict=True))


def predictions(answer):
    assert answer.status == 200, answer.body
    assert list(answer.json()) == ["predictions"]
    return answer.json()["predictions"]


class TestModels:
    def test_the_list_is_v1s_and_openais(self, http):
        found = http.get("/v1/models").json()
        assert {"iris", "org/iris"} <= set(found["models"])
        assert found["object"] == "list"
        entry = next(each for each in found["data"] if each["id"] == "iris")
        assert entry["object"] == "model"
        assert entry["owned_by"] == "default"
        assert entry["created"] > 0

    def test_status(self, http):
        assert http.get("/v1/models/iris").json() == {"name": "iris", "ready": True}
        assert http.get("/v1/models/org/iris").json() == {"name": "org/iris", "ready": True}
        assert http.get("/v1/models/simple/versions/2").status == 200
        assert http.get("/v1/models/nobody").status == 404
        loading = http.get("/v1/models/loading")
        assert (loading.status, loading.json()["ready"]) == (503, False)


class TestPredict:
    @pytest.mark.parametrize(
        "path",
        [
            PREDICT,
            "/v1/models/org/iris:predict",
            "/v1/models/org%2Firis%3Apredict",
            "/v1/models/iris/versions/1:predict",
        ],
    )
    def test_rows(self, http, path):
        assert predictions(http.post(path, {"instances": [ROW, ROW[::-1]]})) == [0, 3]

    def test_as_curl_sends_it(self, http):
        answer = http.post(PREDICT, {"instances": [ROW]}, Content_Type="application/x-www-form-urlencoded")
        assert predictions(answer) == [0]

    def test_no_rows(self, http):
        assert predictions(http.post(PREDICT, {"instances": []})) == []
        assert predictions(http.post("/v1/models/text:predict", {"instances": []})) == []
        assert predictions(http.post("/v1/models/answer:predict", {"instances": []})) == []

    def test_rows_by_column_name_in_any_order(self, http):
        assert predictions(http.post(PREDICT, {"instances": [NAMED, NAMED]})) == [0, 0]

    def test_columns(self, http):
        assert predictions(http.post(PREDICT, {"inputs": {name: [value] for name, value in NAMED.items()}})) == [0]
        assert predictions(http.post(PREDICT, {"inputs": [ROW, ROW]})) == [0, 0]
        assert predictions(http.post(PREDICT, {"inputs": {"x": [ROW]}})) == [0]

    def test_rows_by_input_name(self, http):
        assert predictions(http.post(PREDICT, {"instances": [{"x": ROW}]})) == [0]

    def test_one_number_a_row_is_flat_both_ways(self, http):
        for rows in ([1.0, 2.0], [[1.0], [2.0]]):
            assert predictions(http.post("/v1/models/waiting:predict", {"instances": rows})) == [2.0, 4.0]

    def test_texts_and_several_outputs(self, http):
        found = predictions(http.post("/v1/models/text:predict", {"instances": ["ab", "é"]}))
        assert found == [{"label": "AB", "length": 2}, {"label": "é", "length": 2}]
        assert predictions(http.post("/v1/models/text:predict", {"instances": [["ab"]]})) == [
            {"label": "AB", "length": 2}
        ]

    def test_bytes(self, http):
        data = {"b64": base64.b64encode(b"\xff\xfea").decode()}
        found = predictions(http.post("/v1/models/text:predict", {"instances": [data, "x"]}))
        assert found[0] == {"label": {"b64": base64.b64encode(b"\xff\xfeA").decode()}, "length": 3}
        assert found[1]["label"] == "X"

    def test_several_inputs(self, http):
        rows = [{"context": "c", "question": "q"}, ["q2", "c2"]]
        assert predictions(http.post("/v1/models/answer:predict", {"instances": rows})) == ["q|c", "q2|c2"]
        columns = {"inputs": {"question": ["q"], "context": ["c"]}}
        assert predictions(http.post("/v1/models/answer:predict", columns)) == ["q|c"]

    def test_not_finite_is_null(self, http):
        assert predictions(http.post("/v1/models/inverse:predict", {"instances": [0, 2]})) == [None, 0.5]

    def test_half_floats(self, http):
        assert predictions(http.post("/v1/models/half:predict", {"instances": [1.0, 3.0]})) == [0.5, 1.5]

    def test_parameters(self, http):
        slow = {"instances": [1.0], "parameters": {"seconds": 20, "timeout": 20_000}}
        assert http.post("/v1/models/waiting:predict", slow).status == 504

    def test_many_rows(self, http):
        assert predictions(http.post(PREDICT, {"instances": [ROW] * 5000})) == [0] * 5000
        assert http.post(PREDICT, {"instances": [*[ROW] * 5000, ROW[:3]]}).status == 400
        assert predictions(http.post(PREDICT, {"inputs": [ROW] * 5000})) == [0] * 5000

    def test_compressed(self, http):
        answer = http.post(PREDICT, gzip.compress(json.dumps({"instances": [ROW]}).encode()), Content_Encoding="gzip")
        assert predictions(answer) == [0]

    def test_nothing_to_explain_with(self, http):
        answer = http.post("/v1/models/iris:explain", {"instances": [ROW]})
        assert answer.status == 501
        assert "explainer" in answer.error

    def test_explained(self, http):
        answer = http.post("/v1/models/explained:explain", {"instances": [1.5]})
        assert answer.json() == {"explanations": [1.5]}


BAD = {
    "empty": (PREDICT, b""),
    "no json": (PREDICT, b"{"),
    "a list": (PREDICT, b"[1]"),
    "nothing": (PREDICT, b"{}"),
    "scalar": (PREDICT, b'{"instances": 3}'),
    "null": (PREDICT, b'{"instances": null}'),
    "text": (PREDICT, b'{"instances": "1"}'),
    "object": (PREDICT, b'{"instances": {"x": 1}}'),
    "both": (PREDICT, b'{"instances": [[1,2,3,4]], "inputs": [[1,2,3,4]]}'),
    "a flat row": (PREDICT, b'{"instances": [1, 2, 3, 4]}'),
    "too wide": (PREDICT, b'{"instances": [[1, 2, 3, 4, 5]]}'),
    "too narrow": (PREDICT, b'{"instances": [[1, 2, 3]]}'),
    "too deep": (PREDICT, b'{"instances": [[[1, 2, 3, 4]]]}'),
    "ragged": (PREDICT, b'{"instances": [[1, 2, 3, 4], [1, 2, 3]]}'),
    "texts": (PREDICT, b'{"instances": [["1", "2", "3", "4"]]}'),
    "a null": (PREDICT, b'{"instances": [[1, 2, 3, null]]}'),
    "a boolean": (PREDICT, b'{"instances": [[1, 2, 3, true]]}'),
    "NaN": (PREDICT, b'{"instances": [[1, 2, 3, NaN]]}'),
    "an unknown column": (PREDICT, json.dumps({"instances": [{**NAMED, "extra": 1}]}).encode()),
    "a column missing": (PREDICT, b'{"instances": [{"sepal_length": 1}]}'),
    "a row that is none": (PREDICT, json.dumps({"instances": [NAMED, 3]}).encode()),
    "mixed rows": (PREDICT, json.dumps({"instances": [NAMED, ROW]}).encode()),
    "a text in a column": (PREDICT, json.dumps({"instances": [{**NAMED, "petal_width": "wide"}]}).encode()),
    "columns of two lengths": (
        PREDICT,
        json.dumps({"inputs": {**{n: [1] for n in NAMED}, "petal_width": [1, 2]}}).encode(),
    ),
    "an unknown input": (PREDICT, b'{"inputs": {"z": [[1, 2, 3, 4]]}}'),
    "inputs scalar": (PREDICT, b'{"inputs": 3}'),
    "numbers for texts": ("/v1/models/text:predict", b'{"instances": [1, 2]}'),
    "null for texts": ("/v1/models/text:predict", b'{"instances": [null]}'),
    "an object for texts": ("/v1/models/text:predict", b'{"instances": [{"a": "b"}]}'),
    "broken base64": ("/v1/models/text:predict", b'{"instances": [{"b64": "*"}]}'),
    "base64 that is no text": ("/v1/models/text:predict", b'{"instances": [{"b64": 3}]}'),
    "an input missing": ("/v1/models/answer:predict", b'{"instances": [{"question": "q"}]}'),
    "an input too many": ("/v1/models/answer:predict", b'{"instances": [{"question": "q", "context": "c", "z": 1}]}'),
    "a row too short": ("/v1/models/answer:predict", b'{"instances": [["q"]]}'),
    "inputs no object": ("/v1/models/answer:predict", b'{"inputs": [["q", "c"]]}'),
    "deep": (PREDICT, b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "deep objects": (PREDICT, b'{"instances": [' + b'{"x":' * 5_000 + b"1" + b"}" * 5_000 + b"]}"),
    "no utf-8": ("/v1/models/text:predict", b'{"instances": ["\xff"]}'),
    "parameters that are a list": (PREDICT, b'{"instances": [[1,2,3,4]], "parameters": []}'),
}


@pytest.mark.parametrize(("path", "data"), BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_the_clients_fault_and_say_why(http, path, data):
    answer = http.post(path, data)
    assert answer.status == 400, answer.body
    assert len(answer.error) > 15


def test_the_answer_to_a_wrong_width_says_what_was_expected(http):
    text = http.post(PREDICT, {"instances": [[1, 2]]}).error
    assert "[1, 2]" in text
    assert "sepal_length, sepal_width, petal_length, petal_width" in text


class TestCloudEvents:
    HEADERS = {  # noqa: RUF012
        "ce-id": "e1",
        "ce-source": "tests",
        "ce-type": "org.example.row",
        "ce-specversion": "1.0",
        "Content-Type": "application/json",
    }

    def test_binary_mode(self, http):
        answer = http("POST", PREDICT, {"instances": [ROW]}, self.HEADERS)
        assert answer.json() == {"predictions": [0]}
        assert answer.headers["ce-type"] == "io.kserve.inference.response"
        assert answer.headers["ce-source"] == "io.kserve.inference.iris"
        assert answer.headers["ce-specversion"] == "1.0"
        assert answer.headers["ce-id"] == "e1"
        assert answer.headers["content-type"] == "application/json"

    def test_structured_mode(self, http):
        event = {"id": "e2", "source": "tests", "type": "t", "specversion": "1.0", "data": {"instances": [ROW]}}
        answer = http("POST", PREDICT, event, {"Content-Type": "application/cloudevents+json; charset=utf-8"})
        assert answer.headers["content-type"] == "application/cloudevents+json"
        found = answer.json()
        assert found["data"] == {"predictions": [0]}
        assert found["type"] == "io.kserve.inference.response"
        encoded = {**event, "data_base64": base64.b64encode(json.dumps(event.pop("data")).encode()).decode()}
        encoded.pop("data")
        assert http("POST", PREDICT, encoded, {"Content-Type": "application/cloudevents+json"}).json()["data"] == {
            "predictions": [0]
        }

    @pytest.mark.parametrize("missing", ["ce-id", "ce-source", "ce-type", "ce-specversion"])
    def test_what_an_event_needs(self, http, missing):
        headers = {name: value for name, value in self.HEADERS.items() if name != missing}
        answer = http("POST", PREDICT, {"instances": [ROW]}, headers)
        assert answer.status == 400
        assert missing.removeprefix("ce-") in answer.error

    @pytest.mark.parametrize("data", [b"", b"[]", b'{"id": "1"}', b"nope"])
    def test_broken_events(self, http, data):
        assert http("POST", PREDICT, data, {"Content-Type": "application/cloudevents+json"}).status == 400
