"""The requests that are measured, with the answers that they must get, and the load generator (h2load of nghttp2)."""

import json
import re
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx2
import numpy as np

from mlaas.modelserver.grpc.messages import message
from peers.servers import CACHE, LOAD_CORE, Server

INFER = "/inference.GRPCInferenceService/ModelInfer"
_DTYPES = {"INT64": "<i8", "INT32": "<i4"}


@dataclass
class Case:
    """One request, repeated by `clients` connections with `streams` requests at once on each.

    `expected`: the labels that every server must answer. `bars`: how many times a peer's rate ours is to be.
    """

    name: str
    model: str
    body: bytes
    expected: list[int]
    clients: int
    headers: dict[str, str] = field(default_factory=dict)
    streams: int = 1
    grpc: bool = False
    without: tuple[str, ...] = ()
    bars: dict[str, float] = field(default_factory=dict)

    def path(self) -> str:
        return INFER if self.grpc else f"/v2/models/{self.model}/infer"


def cases(folder: Path) -> list[Case]:
    """All of them; `folder` holds the models that `servers.train` left."""
    import joblib

    row = np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
    many = np.random.default_rng(1).random((10_000, 29)).round(6).astype(np.float32)
    iris, forest, wide = (
        joblib.load(folder / f"{name}.joblib").predict(rows).tolist()
        for name, rows in (("iris", row), ("forest", row), ("wide", many))
    )
    head = {"name": "x", "shape": list(many.shape), "datatype": "FP32"}
    one = _json({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
    text = _json({"inputs": [{**head, "data": many.astype(np.float64).round(6).reshape(-1).tolist()}]})
    sized = {**head, "parameters": {"binary_data_size": many.nbytes}}
    binary = _json({"inputs": [sized], "parameters": {"binary_data_output": True}})
    length = {"inference-header-content-length": str(len(binary)), "content-type": "application/octet-stream"}
    plain = {"content-type": "application/json"}
    best = {"kserve": 3.0, "mlserver": 3.0, "pytriton": 3.0}
    triton = {"pytriton": 1.2}
    return [
        Case("LR, 1 row JSON, 16 connections", "iris", one, iris, 16, plain, bars={"kserve": 20, "pytriton": 10}),
        Case("RF(100), 1 row JSON, 16 connections", "forest", one, forest, 16, plain, bars={"kserve": 100}),
        Case(
            "LR, 10,000 x 29 binary, 4 connections",
            "wide",
            binary + many.tobytes(),
            wide,
            4,
            length,
            without=("mlserver",),  # it has no binary tensors
            bars={"pytriton": 4},
        ),
        Case("LR, 10,000 x 29 JSON, 4 connections", "wide", text, wide, 4, plain, bars=best),
        Case("LR, gRPC 1 row, 64 streams", "iris", _grpc("iris", row), iris, 1, {}, 64, True, bars=triton),
    ]


def check(server: Server, case: Case) -> None:
    """Raises SystemExit where the server's answer to the case's request is not the right one."""
    if case.grpc:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
            call = channel.unary_unary(INFER, response_deserializer=message("ModelInferResponse").FromString)
            answer = call(case.body[5:], timeout=30)
        output = answer.outputs[0]
        raw = answer.raw_output_contents[0] if answer.raw_output_contents else None
        found = list(output.contents.int64_contents) or list(output.contents.int_contents)
        datatype = output.datatype
    else:
        url = f"http://127.0.0.1:{server.http}{case.path()}"
        reply = httpx2.post(url, content=case.body, headers=case.headers, timeout=60)
        reply.raise_for_status()
        size = int(reply.headers.get("inference-header-content-length", len(reply.content)))
        first: dict[str, Any] = json.loads(reply.content[:size])["outputs"][0]
        found, datatype = first.get("data"), first["datatype"]
        raw = None if found is not None else reply.content[size:][: first["parameters"]["binary_data_size"]]
    if raw is not None:
        found = np.frombuffer(raw, dtype=_DTYPES[datatype]).tolist()
    if np.reshape(found, -1).tolist() != case.expected:
        raise SystemExit(f"{server.name} answers '{case.name}' with {str(found)[:200]}")


class Load(NamedTuple):
    """`rate`: answers a second. `share`: of a core's time that the server took; below 1 where it waited or was not alone."""

    rate: float
    share: float

    @property
    def per_core(self) -> float:
        """Answers in a second of processor time: what the rate would be with the core to itself."""
        return self.rate / self.share


def load(server: Server, case: Case, folder: Path, seconds: float) -> Load:
    """Send the case's request for some seconds. Raises SystemExit when any request does not succeed."""
    port = server.grpc if case.grpc else server.http
    body = folder / "body"
    body.write_bytes(case.body)
    command = ["taskset", "-c", LOAD_CORE, *_h2load(), "-c", str(case.clients), "-d", str(body)]
    command += ["-D", f"{round(1000 * seconds)}ms", "--warm-up-time", "500ms", "-m", str(case.streams)]
    for name, value in case.headers.items():
        command += ["-H", f"{name}: {value}"]
    command += ["-H", "te: trailers", "-H", "content-type: application/grpc"] if case.grpc else ["--h1"]
    began, spent = time.perf_counter(), server.cpu_seconds()
    ran = subprocess.run([*command, f"http://127.0.0.1:{port}{case.path()}"], capture_output=True, text=True)
    spent, passed = server.cpu_seconds() - spent, time.perf_counter() - began
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", ran.stdout)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", ran.stdout)
    if rate is None or codes is None or any(int(code) for code in codes.groups()[1:]):
        raise SystemExit(f"'{case.name}' at port {port}:\n{ran.stdout}\n{ran.stderr}")
    return Load(float(rate[1]), spent / passed)


def _h2load() -> list[str]:
    """Debian's nghttp2-client, unpacked into the cache where it is not installed."""
    found = shutil.which("h2load")
    if found:
        return [found]
    root = CACHE / "nghttp2" / "root"
    if not (root / "usr/bin/h2load").exists():
        if shutil.which("apt-get") is None:
            raise SystemExit(
                "The load generator h2load is not here: install nghttp2's client programs (nghttp2-client)."
            )
        root.mkdir(parents=True, exist_ok=True)
        packages = ["nghttp2-client", "libnghttp2-14", "libev4", "libc-ares2", "libjemalloc2", "libxml2"]
        got = subprocess.run(["apt-get", "download", *packages], cwd=root.parent, capture_output=True, text=True)
        if got.returncode:
            raise SystemExit(
                f"The load generator h2load is not here, and Debian's package nghttp2-client cannot be fetched: {got.stderr}"
            )
        for package in root.parent.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return ["env", f"LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu", str(root / "usr/bin/h2load")]


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _grpc(model: str, rows: np.ndarray) -> bytes:
    """A ModelInferRequest with raw contents, behind gRPC's prefix."""
    request = message("ModelInferRequest")(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    request.raw_input_contents.append(rows.tobytes())
    data = request.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data
