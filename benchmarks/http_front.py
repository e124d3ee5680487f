"""CPU time of the HTTP front per request: a logistic regression as a plain function, so that what is measured is the codec.

    python benchmarks/http_front.py [--seconds 3] [--profile]

Prints, for one row as V2 JSON, V1 JSON and binary, and for 10,000 x 29 as JSON and binary: requests per second, and the server's
CPU time a request (user and system, from /proc), with 1 and 16 connections. Nothing is pipelined.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import uvloop

TICKS = os.sysconf("SC_CLK_TCK")


def front() -> None:
    """The server: two logistic regressions, in this process."""
    from mlaas.kernel.listen import bind
    from mlaas.modelserver.dispatch import Dispatch
    from mlaas.modelserver.predictor import Function, Signature, TensorSpec
    from mlaas.modelserver.repository import Model, Repository, Served
    from mlaas.modelserver.server import Front, serve

    def logistic(width: int, datatype: str, dtype: str) -> Function:
        random = np.random.default_rng(0)
        weights, bias = random.normal(size=(width, 3)).astype(dtype), random.normal(size=3).astype(dtype)
        signature = Signature((TensorSpec("x", datatype, (-1, width)),), (TensorSpec("y", "INT64", (-1,)),))
        return Function(signature, lambda arrays, names: [(arrays[0] @ weights + bias).argmax(axis=1)])

    repository = Repository()
    for name, predictor in (("iris", logistic(4, "FP64", "f8")), ("wide", logistic(29, "FP32", "f4"))):
        repository.put(Model("default", name, versions={"1": Served(name, "1", predictor, "READY")}))
    sock = bind("127.0.0.1", 0, "the benchmark", "--port")
    print(sock.getsockname()[1], flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Front(Dispatch(repository), [sock])))


class Client(asyncio.Protocol):
    """Sends the same request again as soon as its answer is whole."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.count = 0
        self.left = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.left:
            head, _, rest = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), data[:500]
            self.left = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]) - len(rest)
        else:
            self.left -= len(data)
        if self.left == 0:
            self.count += 1
            if not self.stopped:
                self.transport.write(self.request)  # type: ignore[attr-defined]


async def load(port: int, request: bytes, connections: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    clients = [Client(request) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(0.3)
    before = sum(client.count for client in clients)
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    done = sum(client.count for client in clients) - before
    elapsed = time.perf_counter() - started
    for client in clients:
        client.stopped = True
    await asyncio.sleep(0.1)
    for client in clients:
        client.transport.close()
    return done / elapsed


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def post(path: str, body: bytes, headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def binary(path: str, array: np.ndarray, datatype: str) -> bytes:
    data = array.tobytes()
    document = {
        "inputs": [
            {"name": "x", "shape": array.shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(document).encode()
    return post(path, text + data, f"Inference-Header-Content-Length: {len(text)}\r\n")


def requests() -> dict[str, bytes]:
    row = [[5.1, 3.5, 1.4, 0.2]]
    wide = np.random.default_rng(1).random((10_000, 29)).astype("f4")
    document = {"inputs": [{"name": "x", "shape": [10_000, 29], "datatype": "FP32", "data": wide.tolist()}]}
    one = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": row}]}
    return {
        "V2 JSON, 1 row": post("/v2/models/iris/infer", json.dumps(one).encode()),
        "V1 JSON, 1 row": post("/v1/models/iris:predict", json.dumps({"instances": row}).encode()),
        "V2 binary, 1 row": binary("/v2/models/iris/infer", np.array(row), "FP64"),
        "V2 JSON, 10,000 x 29": post("/v2/models/wide/infer", json.dumps(document).encode()),
        "V2 binary, 10,000 x 29": binary("/v2/models/wide/infer", wide, "FP32"),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--front", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.front:
        front()
        return
    server = subprocess.Popen([sys.executable, __file__, "--front"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        print(f"{'request':24} {'c':>3} {'requests/s':>11} {'CPU us/request':>15}")
        for name, request in requests().items():
            if arguments.only and arguments.only not in name:
                continue
            for connections in (1, 16):
                before, started = cpu(server.pid), time.perf_counter()
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    rate = runner.run(load(port, request, connections, arguments.seconds))
                spent = cpu(server.pid) - before
                busy = time.perf_counter() - started - 0.1
                print(f"{name:24} {connections:3} {rate:11,.0f} {1e6 * spent / (rate * busy):15.1f}", flush=True)
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
