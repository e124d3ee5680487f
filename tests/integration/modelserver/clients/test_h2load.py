"""h2load, HTTP/1.1 and gRPC over HTTP/2: some thousand requests, none of which fails."""

import json
import shutil

import numpy as np
import pytest
import tritonclient.grpc
from tests.clients import h2load
from tritonclient.grpc import service_pb2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("h2load") or shutil.which("apt-get")), reason="no h2load, nor apt-get to have it from"
    ),
]

REQUESTS = 5000
LEFT, ONES = np.arange(16, dtype=np.int32), np.ones(16, np.int32)


def counted(serving):
    """Requests that succeeded and that failed, as the server counts them."""
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        stats = client.get_inference_statistics("simple").model_stats[0].inference_stats
        return stats.success.count, stats.fail.count


def run(serving, url, body, path, *options):
    path.write_bytes(body)
    before = counted(serving)
    load = h2load.run(url, path, "-n", str(REQUESTS), *options)
    print(f"{load.rate:.0f} requests/s")
    assert (load.succeeded, load.good) == (REQUESTS, REQUESTS), load
    assert (load.failed, load.errored, load.timeout, load.bad) == (0, 0, 0, 0), load
    after = counted(serving)
    assert (after[0] - before[0], after[1] - before[1]) == (REQUESTS, 0)


@pytest.mark.parametrize("pipelined", [1, 8])
def test_http_1_1(serving, tmp_path, pipelined):
    inputs = [
        {"name": name, "shape": [1, 16], "datatype": "INT32", "data": array.tolist()}
        for name, array in (("INPUT0", LEFT), ("INPUT1", ONES))
    ]
    options = ["--h1", "-c", "16", "-m", str(pipelined), "-H", "content-type: application/json"]
    body = json.dumps({"inputs": inputs}).encode()
    run(serving, f"{serving.url}/v2/models/simple/infer", body, tmp_path / "body", *options)


@pytest.mark.parametrize("streams", [1, 64])
def test_grpc(serving, tmp_path, streams):
    """A call that fails has its status in the trailers, behind a 200: the server's own count shows that none did."""
    request = service_pb2.ModelInferRequest(model_name="simple")
    for name, array in (("INPUT0", LEFT), ("INPUT1", ONES)):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(array.tobytes())
    options = ["-c", "8", "-m", str(streams), "-H", "te: trailers", "-H", "content-type: application/grpc"]
    body = h2load.message(request.SerializeToString())
    url = f"http://{serving.grpc}/inference.GRPCInferenceService/ModelInfer"
    run(serving, url, body, tmp_path / "body", *options)
