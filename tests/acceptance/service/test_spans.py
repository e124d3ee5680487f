"""Spans of a request that passes a transformer, a remote server and a second model, at a real OTLP receiver."""

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from tests.platform import Platform

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
ROW = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
TRANSFORMER = """
class Transformer:
    def preprocess(self, inputs):
        return inputs

    def postprocess(self, outputs):
        return outputs
"""


class Receiver:
    """OTLP over HTTP (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"): keeps the spans that come to /v1/traces."""

    def __init__(self) -> None:
        receiver = self
        self.spans: list[Any] = []
        self.services: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    self.services.add(attribute.value.string_value)
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def wait(self, name: str) -> list[Any]:
        """All spans, once one of this name is there."""
        end = time.monotonic() + 30
        while not any(span.name == name for span in self.spans):
            assert time.monotonic() < end, [span.name for span in self.spans]
            time.sleep(0.05)
        return list(self.spans)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Platform]:
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    made = Platform(
        tmp_path_factory.mktemp("spans"),
        MLAAS_WARM="0",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    (made.files / "iris").mkdir()
    skops.io.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), made.files / "iris/model.skops")
    (made.files / "prepare").mkdir()
    (made.files / "prepare" / "transformer.py").write_text(TRANSFORMER)
    with made:
        yield made


def _create(platform: Platform, name: str, spec: dict[str, Any]) -> None:
    with platform.client() as client:
        client.create("services", {"kind": "service", "meta": {"name": name}, "spec": {**spec, "access": "public"}})
        end = time.monotonic() + 60
        while client.get("services", name)["status"].get("phase") != "Ready":
            assert time.monotonic() < end, client.get("services", name)["status"]
            time.sleep(0.05)


def _attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_one_trace_through_transformer_remote_and_model(platform: Platform, receiver: Receiver) -> None:
    base = f"http://127.0.0.1:{platform.inference_port}"
    _create(platform, "iris", {"predictor": {"model": "iris"}})
    remote = {"url": base, "protocol": "KServe/v2", "model_name": "iris"}
    _create(
        platform,
        "far",
        {"predictor": {"remote": remote}, "transformer": {"source": "prepare", "trusted": True}},
    )
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 4], "data": ROW["instances"]}
    answer = httpx2.post(
        f"{base}/v2/models/far/infer",
        json={"inputs": [tensor]},
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "authorization": "Bearer secret-of-the-caller"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["traceparent"].split("-")[1] == TRACE

    spans = {span.name: span for span in receiver.wait("infer far") if span.trace_id.hex() == TRACE}
    by_id = {span.span_id: span for span in spans.values()}
    assert spans["infer far"].parent_span_id.hex() == PARENT

    def above(name: str) -> str:
        return str(by_id[spans[name].parent_span_id].name)

    assert above("preprocess") == above("postprocess") == "infer far"
    post = next(name for name in spans if name.startswith("POST "))
    assert above(post).startswith("predict ")
    assert above(above(post)) == "infer far"
    assert above("infer iris") == post
    found = _attributes(spans["infer iris"])
    assert (found["mlaas.model"], found["mlaas.version"], found["mlaas.protocol"]) == ("iris", "1", "v2")
    assert receiver.services == {"mlaas-modelserver"}
    assert b"secret" not in b"".join(span.SerializeToString() for span in receiver.spans)


def test_whose_fault_a_failed_span_was(platform: Platform, receiver: Receiver) -> None:
    base = f"http://127.0.0.1:{platform.inference_port}"
    trace = "1" * 32
    answer = httpx2.post(
        f"{base}/v1/models/iris:predict",
        json={"instances": [[1.0]]},
        headers={"traceparent": f"00-{trace}-{PARENT}-01"},
        timeout=60,
    )
    assert answer.status_code == 400
    end = time.monotonic() + 30
    while not (mine := [span for span in receiver.spans if span.trace_id.hex() == trace]):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert _attributes(mine[0])["http.response.status_code"] == 400
    assert mine[0].status.code == 0  # the client's fault is no error of the server's span
