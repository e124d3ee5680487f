"""The OpenAPI description that the inference port serves, and the server against it."""

import http.client
import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def document(serving):
    return _ask(serving, "GET", "/openapi.json")[1]


def _ask(serving, method, path, body=None):
    connection = http.client.HTTPConnection(serving.http, timeout=30)
    connection.request(method, path, body)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(data) if is_json else data


def test_it_is_openapi_and_has_the_protocols_paths(document):
    """The Open Inference Protocol's own paths, and V1's."""
    assert document["openapi"].startswith("3.1.")
    versions = ("/v2/models/{model_name}", "/v2/models/{model_name}/versions/{model_version}")
    assert {
        *("/v2", "/v2/health/live", "/v2/health/ready", "/v1/models", "/v2/repository/index"),
        *(f"{each}{word}" for each in versions for word in ("", "/ready", "/infer")),
        *(f"/v1/models/{{model_name}}:{verb}" for verb in ("predict", "explain")),
    } <= set(document["paths"])
    operations = [
        operation["operationId"]
        for item in document["paths"].values()
        for key, operation in item.items()
        if key != "parameters"
    ]
    assert len(operations) == len(set(operations))


def test_every_path_in_it_is_a_route_with_these_methods(serving, document):
    for path, item in document["paths"].items():
        real = (
            path.replace("{model_name}", "simple_int8").replace("{model_version}", "1").replace("{region_name}", "none")
        )
        for method in ("get", "post", "put", "delete"):
            status, _ = _ask(serving, method.upper(), real, b"{}" if method == "post" else None)
            assert (status == 405) == (method not in item), (method, real)
            assert status not in (404, 500) or "/region/none/status" in real, (method, real)
    _ask(serving, "POST", "/v2/repository/models/simple_int8/load")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_generated_requests_find_no_failure(serving, tmp_path):
    """All checks of schemathesis, also stateful ones: no undocumented status, type or body, no server error, and nothing accepted
    that the schema forbids."""
    program = Path(sys.executable).with_name("st")
    options = "--checks=all --max-examples=40 --max-failures=50 --request-timeout=60 --no-color --seed=5"
    done = subprocess.run(
        [program, f"--config-file={CONFIGURATION}", "run", f"{serving.url}/openapi.json", *options.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12_000:]
    _ask(serving, "POST", "/v2/repository/models/simple_identity/load")
