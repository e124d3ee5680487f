"""Whose model a request is for, and who may know of it: the same over HTTP and gRPC.

Three projects have models of the same names, `iris` and `org/deep/iris`, that answer with a number of their project.
`physics` and `biology` are private, `default` is public. `alice` is a member of physics, `bob` of both, `svc` may call
physics's `iris` alone, `late` is a member of physics whose time has passed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import tritonclient.http
from tests.integration.modelserver.grpc.conftest import Running, start
from tests.integration.modelserver.grpc.wire import Wire
from tests.integration.modelserver.http.conftest import Client

from mlaas.kernel.listen import bind
from mlaas.modelserver.dispatch import Dispatch, digest_of
from mlaas.modelserver.grpc.messages import INFERENCE, message
from mlaas.modelserver.predictor import Function, Predictor, Signature, TensorSpec
from mlaas.modelserver.repository import Model, Repository, Served
from mlaas.modelserver.server import Front
from mlaas.modelserver.table import Access

NUMBERS = {"default": 0.0, "physics": 1.0, "biology": 2.0}
NAMES = ("iris", "org/deep/iris")
DOMAIN = "serve.example.org"
UNKNOWN = "unknown"
MEMBERS = {"physics": ["alice", "bob", "late"], "biology": ["bob"]}
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0.0]}]}


def number(value: float) -> Predictor:
    """Whose it is."""
    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("project", "FP32", (-1,)),))
    return Function(signature, lambda arrays, outputs: [np.full(len(arrays[0]), value, np.float32)])


def admit(dispatch: Dispatch, members: dict[str, list[str]], service_tokens: list[str]) -> None:
    dispatch.admit(
        {project: [digest_of(token) for token in tokens] for project, tokens in members.items()},
        DOMAIN,
        {"physics": {"iris": [digest_of(token) for token in service_tokens]}},
        {digest_of("late"): 1.0},
    )


def dispatch() -> Dispatch:
    repository = Repository()
    for project, value in NUMBERS.items():
        for name in NAMES:
            access = Access(public=project == "default")
            repository.put(Model(project, name, access, {"1": Served(name, "1", number(value), "READY")}))
    repository.put(
        Model("physics", "secret", Access(), {"1": Served("secret", "1", number(1.0), "READY")}),
    )
    found = Dispatch(repository)
    admit(found, MEMBERS, ["svc"])
    return found


@dataclass
class Both:
    """One front at its two ports."""

    running: Running
    http: Client

    def read(self, protocol: str, name: str = "iris", **who: str) -> float | str:
        """What a model answers, or `unknown` for 404 and NOT_FOUND. `who`: token, header, host."""
        if protocol == "grpc":
            request = message("ModelInferRequest")(model_name=name)
            request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(0.0)
            fields, data = self.call("ModelInfer", request, **who)
            if fields["grpc-status"] == "5":
                return UNKNOWN
            assert fields["grpc-status"] == "0", fields
            answer = message("ModelInferResponse").FromString(data)
            return float(answer.outputs[0].contents.fp32_contents[0])
        status, answer = self.post(f"{who.pop('path', '')}/v2/models/{name}/infer", BODY, **who)
        if status == 404:
            return UNKNOWN
        assert status == 200, answer
        return float(answer["outputs"][0]["data"][0])

    def post(self, path: str, body: Any = None, **who: str) -> tuple[int, Any]:
        return self.send("POST", path, body, **who)

    def get(self, path: str, **who: str) -> tuple[int, Any]:
        return self.send("GET", path, None, **who)

    def send(self, method: str, path: str, body: Any, token: str = "", header: str = "", host: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"mlaas-project": header} if header else {}
        headers |= {"Host": host} if host else {}
        answer = self.http(method, path, body, headers)
        kind = answer.headers["content-type"]
        return answer.status, answer.json() if kind == "application/json" else answer.body.decode()

    def call(
        self, method: str, request: Any, token: str = "", header: str = "", host: str = ""
    ) -> tuple[dict[str, str], bytes]:
        """Status and trailers, and the message's bytes."""
        fields = {"authorization": f"Bearer {token}"} if token else {}
        fields |= {"mlaas-project": header} if header else {}
        fields |= {":authority": host} if host else {}
        with Wire(self.running.port) as wire:
            wire.call(1, f"/{INFERENCE}/{method}", request.SerializeToString(), **fields)
            found, data = wire.answer()
        return found, data[5:]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    found = dispatch()
    gen = start(dispatch=found)
    running = next(gen)
    sock = bind("127.0.0.1", 0, "the tests", "--port")
    front = running.do(lambda: Front(found, [sock]))
    running.do(front.start)
    found.started = True
    http = Client(sock.getsockname()[1])
    yield Both(running, http)
    http.close()
    running.do(lambda: front.listener.drain(0.2))
    gen.close()


BOB = {"token": "bob"}
ALICE = {"token": "alice"}
AT = {"host": f"iris.biology.{DOMAIN}"}


class TestOrder:
    """Path, header, host, the token's only project, `default`: the first that says something."""

    @pytest.mark.parametrize(
        ("who", "project"),
        [
            ({"path": "/projects/physics", "header": "biology", **AT, **BOB}, "physics"),
            ({"path": "/projects/physics", **AT, **BOB}, "physics"),
            ({"path": "/projects/default", **ALICE}, "default"),
            ({"path": "/projects/phys%69cs", **BOB}, "physics"),
        ],
    )
    def test_the_path_is_first(self, both: Both, who: dict[str, str], project: str) -> None:
        assert both.read("http", **who) == NUMBERS[project]

    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        ("who", "project"),
        [
            ({"header": "physics", **AT, **BOB}, "physics"),
            ({"header": "biology", **BOB}, "biology"),
            ({"header": "default", **ALICE}, "default"),
            ({**AT, **BOB}, "biology"),
            ({"host": f"iris.physics.{DOMAIN}:8000", **BOB}, "physics"),
            ({"host": "IRIS.Physics.Serve.Example.ORG", **BOB}, "physics"),
            ({"host": f"iris.physics.{DOMAIN}.", **BOB}, "physics"),
            ({"host": f"a.b.physics.{DOMAIN}", **BOB}, "physics"),
            ({"host": f"iris.default.{DOMAIN}", **ALICE}, "default"),
            ({"host": f"physics.{DOMAIN}", **BOB}, "default"),
            ({"host": DOMAIN, **BOB}, "default"),
            ({"host": "iris.physics.another.org", **BOB}, "default"),
            ({"host": f"iris.physics.x{DOMAIN}", **BOB}, "default"),
            ({"host": "[::1]:8000", **BOB}, "default"),
            (ALICE, "physics"),
            (BOB, "default"),
            ({"token": "nobody"}, "default"),
            ({}, "default"),
        ],
    )
    def test_then_the_rest(self, both: Both, protocol: str, name: str, who: dict[str, str], project: str) -> None:
        assert both.read(protocol, name, **who) == NUMBERS[project]

    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_a_services_token_has_one_project_too(self, both: Both, protocol: str) -> None:
        assert both.read(protocol, token="svc") == NUMBERS["physics"]
        assert both.read(protocol, "org/deep/iris", token="svc") == UNKNOWN
        assert both.read(protocol, token="svc", header="biology") == UNKNOWN

    def test_a_slash_in_a_name_may_be_escaped(self, both: Both) -> None:
        for name in ("org/deep/iris", "org%2Fdeep%2Firis", "org/deep%2Firis"):
            assert both.read("http", name, path="/projects/physics", **BOB) == NUMBERS["physics"]
            status, found = both.get(f"/projects/biology/v2/models/{name}", **BOB)
            assert (status, found["name"]) == (200, unquote(name))

    def test_tritons_client_keeps_the_prefix(self, both: Both) -> None:
        tensor = tritonclient.http.InferInput("x", [1], "FP32")
        tensor.set_data_from_numpy(np.zeros(1, np.float32))
        for project, value in NUMBERS.items():
            with tritonclient.http.InferenceServerClient(f"{both.http.base}/projects/{project}") as client:
                headers = {"Authorization": "Bearer bob"}
                for name in NAMES:
                    assert client.is_model_ready(name, headers=headers)
                    found = client.infer(name, [tensor], headers=headers)
                    assert found.as_numpy("project").tolist() == [value]
                listed = {entry["name"] for entry in client.get_model_repository_index(headers=headers)}
                assert set(NAMES) <= listed


WHO = {
    "bob in physics": ({**BOB, "header": "physics"}, {"iris", "org/deep/iris", "secret"}),
    "bob in biology": ({**BOB, "header": "biology"}, {"iris", "org/deep/iris"}),
    "alice": (ALICE, {"iris", "org/deep/iris", "secret"}),
    "alice in biology": ({**ALICE, "header": "biology"}, set()),
    "a service's token": ({"token": "svc"}, {"iris"}),
    "nobody in physics": ({"header": "physics"}, set()),
    "a token that nobody gave": ({"token": "no", "header": "physics"}, set()),
    "a token that has ended": ({"token": "late", "header": "physics"}, set()),
    "nobody": ({}, {"iris", "org/deep/iris"}),
}


@pytest.mark.parametrize(("who", "names"), WHO.values(), ids=WHO.keys())
class TestLists:
    """Every list holds what the caller may call, and nothing else."""

    def test_over_http(self, both: Both, who: dict[str, str], names: set[str]) -> None:
        assert set(both.get("/v2/models", **who)[1]["models"]) == names
        models = both.get("/v1/models", **who)[1]
        assert set(models["models"]) == {entry["id"] for entry in models["data"]} == names
        assert {entry["name"] for entry in both.post("/v2/repository/index", **who)[1]} == names
        assert {entry["name"] for entry in both.get("/v2/models/stats", **who)[1]["model_stats"]} == names

    def test_over_grpc(self, both: Both, who: dict[str, str], names: set[str]) -> None:
        for method, answer, field in (
            ("RepositoryIndex", "RepositoryIndexResponse", "models"),
            ("ModelStatistics", "ModelStatisticsResponse", "model_stats"),
        ):
            fields, data = both.call(method, message(f"{method}Request")(), **who)
            assert fields["grpc-status"] == "0"
            assert {each.name for each in getattr(message(answer).FromString(data), field)} == names

    def test_in_metrics(self, both: Both, who: dict[str, str], names: set[str]) -> None:
        text = both.get("/metrics", **who)[1]
        seen = {(project, name) for project in NUMBERS for name in (*NAMES, "secret") if _labels(project, name) in text}
        token = who.get("token", "")
        projects = {"alice": {"physics"}, "bob": {"physics", "biology"}}.get(token, set())
        mine = {(project, name) for project in projects | {"default"} for name in NAMES}
        mine |= {("physics", "secret")} if projects else set()
        assert seen == mine | ({("physics", "iris")} if token == "svc" else set())


def _labels(project: str, name: str) -> str:
    return f'mlaas_model_ready{{model="{name}",project="{project}",version="1"}}'


class TestTheSameAnswer:
    """For what is there and for what is not, word by word, to who may not know."""

    STRANGERS = ({}, {"token": "no"}, {"token": "late"}, {"token": "svc"})

    @pytest.mark.parametrize("who", STRANGERS, ids=str)
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/v2/models/{}", None),
            ("GET", "/v2/models/{}/ready", None),
            ("GET", "/v2/models/{}/config", None),
            ("GET", "/v2/models/{}/stats", None),
            ("GET", "/v2/models/{}/versions/1", None),
            ("GET", "/v2/models/{}/trace/setting", None),
            ("POST", "/v2/models/{}/infer", BODY),
            ("POST", "/v2/models/{}/infer", b"no JSON at all"),
            ("POST", "/v2/models/{}/versions/7/infer", BODY),
            ("POST", "/v2/models/{}/generate", {"text_input": "x"}),
            ("POST", "/v2/models/{}/generate_stream", {"text_input": "x"}),
            ("GET", "/v1/models/{}", None),
            ("POST", "/v1/models/{}:predict", {"instances": [1]}),
            ("POST", "/v1/models/{}:explain", {"instances": [1]}),
            ("POST", "/v2/repository/models/{}/load", None),
            ("POST", "/v2/repository/models/{}/unload", None),
        ],
    )
    def test_over_http(self, both: Both, who: dict[str, str], method: str, path: str, body: Any) -> None:
        path = f"/projects/physics{path}"
        there = both.send(method, path.format("secret"), body, **who)
        missing = both.send(method, path.format("absent"), body, **who)
        assert there[0] == missing[0] == 404, there
        assert json.dumps(there).replace("secret", "absent") == json.dumps(missing)

    @pytest.mark.parametrize("who", STRANGERS, ids=str)
    @pytest.mark.parametrize(
        ("method", "field"),
        [
            ("ModelInfer", "model_name"),
            ("ModelMetadata", "name"),
            ("ModelReady", "name"),
            ("ModelConfig", "name"),
            ("ModelStatistics", "name"),
            ("TraceSetting", "model_name"),
            ("RepositoryModelLoad", "model_name"),
            ("RepositoryModelUnload", "model_name"),
        ],
    )
    def test_over_grpc(self, both: Both, who: dict[str, str], method: str, field: str) -> None:
        said = []
        for name in ("secret", "absent"):
            fields, _ = both.call(method, message(f"{method}Request")(**{field: name}), header="physics", **who)
            assert fields["grpc-status"] == "5", fields
            said.append(fields["grpc-message"].replace("secret", "absent"))
        assert said[0] == said[1]

    @pytest.mark.parametrize("who", STRANGERS, ids=str)
    def test_over_a_stream(self, both: Both, who: dict[str, str]) -> None:
        said = []
        for name in ("secret", "absent"):
            request = message("ModelInferRequest")(model_name=name, id="1")
            fields, data = both.call("ModelStreamInfer", request, header="physics", **who)
            answer = message("ModelStreamInferResponse").FromString(data)
            said.append((fields["grpc-status"], answer.error_message.replace("secret", "absent")))
            assert "absent" in said[-1][1] or fields["grpc-status"] == "5"
        assert said[0] == said[1]


def test_a_revocation_holds_for_connections_that_are_open(both: Both) -> None:
    """From the very next request on: what the front is told is what it goes by."""
    found = both.running.dispatch
    wire = Wire(both.running.port)
    ready = message("ModelReadyRequest")(name="secret").SerializeToString()
    who = {"authorization": "Bearer alice"}
    try:
        assert both.get("/v2/models/secret", **ALICE)[0] == 200
        wire.call(1, f"/{INFERENCE}/ModelReady", ready, **who)
        assert wire.status(1) == 0
        both.running.do(lambda: admit(found, {"physics": ["bob"], "biology": ["bob"]}, []))
        assert both.get("/v2/models/secret", header="physics", **ALICE)[0] == 404
        wire.call(3, f"/{INFERENCE}/ModelReady", ready, mlaas_project="physics", **who)
        assert wire.status(3) == 5
        assert both.read("http", token="svc", header="physics") == UNKNOWN
        assert both.read("grpc", header="physics", **BOB) == NUMBERS["physics"]
    finally:
        both.running.do(lambda: admit(found, MEMBERS, ["svc"]))
        with wire:
            pass
    assert both.get("/v2/models/secret", **ALICE)[0] == 200


@pytest.mark.parametrize("path", ["/projects//v2/models/iris", "/projects", "/projects/physics", "/projects/physics/"])
def test_a_prefix_alone_is_nothing(both: Both, path: str) -> None:
    assert both.get(path, **BOB)[0] == 404
