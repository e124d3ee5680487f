"""Everything beside inference: who may call, the repository, statistics, metrics, generate, shared memory, traces."""

import json
import re
from multiprocessing import shared_memory

import pytest
from tests.integration.modelserver.http.conftest import message

ROW = [5.1, 3.5, 1.4, 0.2]
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}
INFER = "/v2/models/iris/infer"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class TestAccess:
    """`alice` is a member of physics, `bob` of physics and biology, `svc` may call biology's iris."""

    @pytest.mark.parametrize(
        ("headers", "path"),
        [
            (bearer("alice"), INFER),  # her only project
            (bearer("alice") | {"mlaas-project": "physics"}, INFER),
            (bearer("alice"), f"/projects/physics{INFER}"),
            (bearer("alice") | {"Host": "iris.physics.serve.example.org"}, INFER),
            (bearer("bob") | {"Host": "iris.biology.serve.example.org:8000"}, INFER),
            (bearer("bob"), "/projects/biology/v1/models/iris"),
            (bearer("svc"), INFER),  # the only project it may call something in
            ({"Authorization": "bearer  svc"}, "/projects/biology/v2/models/iris"),
        ],
    )
    def test_allowed(self, guarded, headers, path):
        method, body = ("POST", BODY) if path.endswith("infer") else ("GET", None)
        assert guarded(method, path, body, headers).status == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            bearer("nobody"),
            {"Authorization": "Basic YWxpY2U6"},
            {"Authorization": "Bearer"},
            bearer("svc") | {"mlaas-project": "physics"},
        ],
    )
    def test_unknown_and_forbidden_are_the_same(self, guarded, headers):
        there = guarded("POST", f"/projects/physics{INFER}", BODY, headers)
        not_there = guarded("POST", "/projects/physics/v2/models/nope/infer", BODY, headers)
        assert there.status == not_there.status == 404
        assert there.error.replace("iris", "nope") == not_there.error

    def test_nobody_learns_names_from_other_routes(self, guarded):
        for path in ("", "/ready", "/stats", "/config", "/versions/1"):
            assert guarded.get(f"/projects/biology/v2/models/iris{path}", Authorization="Bearer alice").status == 404
        assert guarded.get("/projects/biology/v1/models/iris", Authorization="Bearer alice").status == 404
        for word in ("load", "unload"):
            answer = guarded.post(f"/projects/biology/v2/repository/models/iris/{word}", Authorization="Bearer alice")
            assert answer.status == 404

    def test_lists_hold_what_the_caller_may_call(self, guarded):
        for path, names in (
            ("/v1/models", lambda found: found["models"]),
            ("/v2/models", lambda found: found["models"]),
            ("/v2/models/stats", lambda found: [each["name"] for each in found["model_stats"]]),
        ):
            headers = bearer("bob") | {"mlaas-project": "biology"}
            assert names(guarded("GET", path, None, headers).json()) == ["iris"]
            headers = bearer("alice") | {"mlaas-project": "biology"}
            assert names(guarded("GET", path, None, headers).json()) == []
        index = guarded("POST", "/v2/repository/index", None, {"mlaas-project": "biology"})
        assert index.json() == []

    def test_metrics_too(self, guarded):
        assert 'project="biology"' not in guarded("GET", "/metrics", None, bearer("alice")).body.decode()
        assert 'project="biology"' in guarded("GET", "/metrics", None, bearer("bob")).body.decode()

    def test_open_to_all(self, guarded):
        for path in ("/", "/v2", "/v2/health/live", "/v2/health/ready", "/openapi.json"):
            assert guarded.get(path).status == 200

    def test_public_models_need_no_token(self, guarded):
        assert guarded.post(INFER, BODY).status == 200  # default has public ones

    def test_two_projects_have_a_model_of_one_name(self, http):
        for project in ("default", "physics", "biology"):
            assert http.get(f"/projects/{project}/v2/models/iris").status == 200
        assert http.get("/projects/chemistry/v2/models/iris").status == 404


class TestRepository:
    @pytest.mark.parametrize("body", [None, b"", b"{}", b'{"ready": false}'])
    def test_index(self, http, body):
        found = http("POST", "/v2/repository/index", body).json()
        assert {"name": "loading", "version": "1", "state": "LOADING", "reason": "it is being read"} in found
        assert {"name": "simple", "version": "2", "state": "READY", "reason": ""} in found

    def test_only_the_ready_ones(self, http):
        found = http.post("/v2/repository/index", {"ready": True}).json()
        assert {entry["state"] for entry in found} == {"READY"}

    @pytest.mark.parametrize("body", [b"{", b"[]", b"3"])
    def test_bad_bodies(self, http, body):
        assert http("POST", "/v2/repository/index", body).status == 400
        assert http("POST", "/v2/repository/models/simple/load", body).status == 400

    def test_unload_and_load(self, http):
        path = "/v2/repository/models/org/iris"
        assert http.post(f"{path}/unload").json() == {"name": "org/iris", "unload": True}
        try:
            answer = http.post("/v2/models/org/iris/infer", BODY)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert http.get("/v2/models/org/iris/ready").status == 503
        finally:
            assert http.post(f"{path}/load", {"parameters": {}}).json() == {"name": "org/iris", "load": True}
        assert http.post("/v2/models/org/iris/infer", BODY).status == 200

    def test_unknown(self, http):
        assert http.post("/v2/repository/models/nobody/load").status == 404
        assert (
            http.post("/v2/repository/models/nobody/unload", {"parameters": {"unload_dependents": True}}).status == 404
        )


class TestStatistics:
    def test_counts(self, http):
        def read():
            return http.get("/v2/models/simple/versions/1/stats").json()["model_stats"][0]

        def infer(rows):
            parts = [
                {"name": name, "shape": [rows, 16], "datatype": "INT32", "data": [1] * 16 * rows}
                for name in ("INPUT0", "INPUT1")
            ]
            return http.post("/v2/models/simple/versions/1/infer", {"inputs": parts}).status

        before = read()
        assert [infer(1), infer(5), infer(0)] == [200, 200, 200]
        assert http.post("/v2/models/simple/versions/1/infer", b"{").status == 400
        after = read()
        assert after["inference_count"] - before["inference_count"] == 6
        assert after["execution_count"] - before["execution_count"] == 3
        assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 3
        assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
        assert after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
        assert 5 in [entry["batch_size"] for entry in after["batch_stats"]]
        assert after["last_inference"] > 1_700_000_000_000

    def test_all_versions_and_all_models(self, http):
        versions = http.get("/v2/models/simple/stats").json()["model_stats"]
        assert [entry["version"] for entry in versions] == ["1", "2"]
        assert len(http.get("/v2/models/stats").json()["model_stats"]) > 10

    def test_metrics(self, http):
        def value(text, name, **labels):
            wanted = re.escape(",".join(f'{key}="{word}"' for key, word in sorted(labels.items())))
            found = re.search(rf"^{name}\{{{wanted}\}} (\S+)$", text, re.MULTILINE)
            return float(found[1]) if found else 0.0

        labels = {"project": "default", "model": "iris", "version": "1", "protocol": "v1"}
        before = http.get("/metrics").body.decode()
        http.post("/v1/models/iris:predict", {"instances": [ROW, ROW]})
        http.post("/v1/models/iris:predict", {"instances": [[1]]})
        answer = http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        after = answer.body.decode()

        def gained(name, **more):
            return value(after, name, **labels, **more) - value(before, name, **labels, **more)

        assert gained("mlaas_inference_requests_total", code="200") == 1
        assert gained("mlaas_inference_requests_total", code="400") == 1
        assert gained("mlaas_inference_rows_total") == 2
        for stage in ("queue", "compute", "request"):
            assert gained(f"mlaas_inference_{stage}_seconds_count") == 1
            assert gained(f"mlaas_inference_{stage}_seconds_bucket", le="+Inf") == 1
        assert gained("mlaas_inference_batch_size_sum") == 2
        assert 'mlaas_model_ready{model="loading",project="default",version="1"} 0.0' in after
        assert "mlaas_http_connections" in after


class TestGenerate:
    def test_one_answer(self, http):
        answer = http.post("/v2/models/words/generate", {"text_input": "one two", "parameters": {"temperature": 0.5}})
        assert answer.json() == {"model_name": "words", "model_version": "1", "text_output": "ONE TWO"}
        assert http.post("/v2/models/words/generate", {"prompt": ["a"]}).json()["text_output"] == "A"

    def test_numbers(self, http):
        found = http.post("/v2/models/waiting/generate", {"x": [1, 2.5]}).json()
        assert found["y"] == [2.0, 5.0]
        assert http.post("/v2/models/waiting/generate", {"x": 4}).json()["y"] == 8.0

    def events(self, answer):
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(part.removeprefix("data: ")) for part in answer.body.decode().split("\n\n") if part]

    def test_a_stream(self, http):
        answer = http.post("/v2/models/words/generate_stream", {"text_input": "one two three"})
        assert [event["text_output"] for event in self.events(answer)] == ["one", "two", "three"]
        answer = http.post("/v2/models/words/generate_stream", {"text_input": "once"})
        assert len(self.events(answer)) == 1

    def test_events_come_as_they_are_made(self, http):
        wire = http.wire()
        body = json.dumps({"text_input": "one two", "seconds": 0.3}).encode()
        wire.send(message("POST", "/v2/models/words/generate_stream", body))
        head = wire._until(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert b'"one"' in wire._until(b"\n\n")
        wire.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            wire._until(b'"two"')

    def test_an_error_before_the_first_event_has_its_status(self, http):
        answer = http.post("/v2/models/words/generate_stream", {"text_input": "bad"})
        assert answer.status == 400
        assert "not spoken" in answer.error

    def test_an_error_later_is_the_last_event(self, http):
        events = self.events(http.post("/v2/models/words/generate_stream", {"text_input": "good bad good"}))
        assert [list(event) for event in events] == [["model_name", "model_version", "text_output"], ["error"]]

    def test_http_1_0_streams_until_it_closes(self, http):
        wire = http.wire()
        body = b'{"text_input": "one two"}'
        wire.send(message("POST", "/v2/models/words/generate_stream", body, version="1.0"))
        answer = wire.answer()
        assert "transfer-encoding" not in answer.headers
        found = b""
        while data := wire.socket.recv(1000):
            found += data
        assert (answer.body + wire._buffer + found).count(b"data: ") == 2

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"{}", b'{"text_input": 3}', b'{"text_input": null}', b'{"text_input": "a", "p": [1]}',
                 b'{"text_input": ["a", "b"], "parameters": 3}', b'{"text_input": "a", "parameters": {"p": {}}}'],
    )  # fmt: skip
    @pytest.mark.parametrize("word", ["generate", "generate_stream"])
    def test_bad_bodies(self, http, word, body):
        answer = http("POST", f"/v2/models/words/{word}", body)
        assert answer.status == 400, answer.body
        assert answer.error


class TestMemory:
    @pytest.fixture
    def region(self, http):
        memory = shared_memory.SharedMemory(create=True, size=64)
        yield memory
        http.post("/v2/systemsharedmemory/unregister")
        memory.close()
        memory.unlink()

    def register(self, http, memory, name="r", **extra):
        body = {"key": f"/{memory.name}", "offset": 0, "byte_size": 64, **extra}
        return http.post(f"/v2/systemsharedmemory/region/{name}/register", body)

    def infer(self, http, **place):
        part = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"shared_memory_region": "r", **place}}
        return http.post(INFER, {"inputs": [part]})

    def test_registered_read_written_and_let_go(self, http, region):
        import numpy as np

        assert self.register(http, region).status == 200
        status = http.get("/v2/systemsharedmemory/region/r/status").json()
        assert status == [{"name": "r", "key": f"/{region.name}", "offset": 0, "byte_size": 64}]
        assert status == http.get("/v2/systemsharedmemory/status").json()
        np.frombuffer(region.buf, np.float32, 4, 16)[:] = [1, 2, 9, 4]
        place = {"shared_memory_region": "r", "shared_memory_byte_size": 16, "shared_memory_offset": 16}
        answer = http.post(
            INFER,
            {
                "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": place}],
                "outputs": [
                    {"name": "label", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}}
                ],
            },
        )
        assert answer.status == 200, answer.body
        output = answer.json()["outputs"][0]
        assert "data" not in output
        assert output["parameters"]["shared_memory_byte_size"] == 8
        assert np.frombuffer(region.buf, np.int64, 1).tolist() == [2]
        assert http.post("/v2/systemsharedmemory/region/r/unregister").status == 200
        assert http.get("/v2/systemsharedmemory/region/r/status").status == 404

    @pytest.mark.parametrize(
        "extra",
        [{"key": "../etc/passwd"}, {"key": "/"}, {"key": ".."}, {"key": "nope"}, {"byte_size": 65}, {"byte_size": 0},
         {"offset": -1}, {"offset": 1}, {"byte_size": "64"}, {"key": 3}, {"key": "a\0b"}],
    )  # fmt: skip
    def test_what_cannot_be_registered(self, http, region, extra):
        answer = self.register(http, region, **extra)
        assert answer.status in (400, 404), answer.body
        assert answer.error

    def test_twice(self, http, region):
        assert self.register(http, region).status == 200
        assert self.register(http, region).status == 409

    @pytest.mark.parametrize(
        "place",
        [{"shared_memory_byte_size": 15}, {"shared_memory_byte_size": 16, "shared_memory_offset": 56},
         {"shared_memory_byte_size": 16, "shared_memory_offset": -4}, {"shared_memory_byte_size": "16"},
         {"shared_memory_region": "other", "shared_memory_byte_size": 16}, {}],
    )  # fmt: skip
    def test_bytes_outside(self, http, region, place):
        self.register(http, region)
        assert self.infer(http, **place).status in (400, 404)

    def test_a_region_that_shrinks_is_no_crash(self, http, region):
        import os

        self.register(http, region)
        os.truncate(f"/dev/shm/{region.name}", 4)
        answer = self.infer(http, shared_memory_byte_size=16)
        assert answer.status == 400
        assert "shorter" in answer.error
        os.truncate(f"/dev/shm/{region.name}", 64)

    def test_no_cuda(self, http):
        assert http.get("/v2/cudasharedmemory/status").json() == []
        assert http.post("/v2/cudasharedmemory/region/r/register", {"raw_handle": {"b64": ""}}).status == 501


class TestSettings:
    def test_they_can_be_read(self, http):
        assert http.get("/v2/trace/setting").json()["trace_level"] == ["OFF"]
        assert http.get("/v2/models/iris/trace/setting").status == 200
        assert http.get("/v2/models/nobody/trace/setting").status == 404
        assert http.get("/v2/logging").json()["log_error"] is True

    def test_changing_them_is_refused(self, http):
        answer = http.post("/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]})
        assert answer.status == 400
        assert "trace_level" in answer.error
        assert http.post("/v2/logging", {"log_verbose_level": 3}).status == 400
        assert http.post("/v2/logging", {"nope": 3}).status == 400
        assert http.post("/v2/logging", {"log_info": True}).status == 200
        assert http("POST", "/v2/logging", b"[").status == 400


class TestTrace:
    PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def test_the_answer_is_in_the_same_trace(self, http):
        for path, body in ((INFER, BODY), ("/v2/models/waiting/generate", {"x": 1}), (INFER, {})):
            found = http.post(path, body, traceparent=self.PARENT).headers["traceparent"]
            assert found.startswith("00-0af7651916cd43dd8448eb211c80319c-")
            assert found.endswith("-01")
            assert found != self.PARENT

    @pytest.mark.parametrize(
        "value", ["", "00", PARENT.upper(), PARENT.replace("b7ad6b7169203331", "0" * 16), "ff" + PARENT[2:]]
    )
    def test_a_broken_one_is_ignored(self, http, value):
        answer = http.post(INFER, BODY, traceparent=value)
        assert answer.status == 200
        assert "traceparent" not in answer.headers


class TestClassification:
    def ask(self, http, count, name="scores", data=ROW, **extra):
        outputs = [{"name": name, "parameters": {"classification": count, **extra}}]
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": data}], "outputs": outputs}
        return http.post(INFER, body)

    def test_the_largest_with_their_labels(self, http):
        found = self.ask(http, 2).json()["outputs"][0]
        assert found["datatype"] == "BYTES"
        assert found["shape"] == [1, 2]
        assert found["data"] == ["5.100000:0:setosa", "3.500000:1:versicolor"]

    def test_more_than_there_are(self, http):
        assert self.ask(http, 10).json()["outputs"][0]["shape"] == [1, 3]

    def test_binary(self, http):
        answer = self.ask(http, 1, binary_data=True)
        assert answer.body.endswith(b"5.100000:0:setosa")

    @pytest.mark.parametrize("count", [0, -1, "2", True, 1.5])
    def test_bad_counts(self, http, count):
        assert self.ask(http, count).status == 400
