"""Serving against KServe's Python server, MLServer and Triton (through pytriton): one core each, interleaved in one run.

    python benchmarks/serving.py [--rounds 3] [--seconds 3] [--only SCENARIO ...] [--peers kserve mlserver pytriton]

All servers run at the same time on core 0 (the idle ones wait), the load generator (h2load) on core 1. Every figure is the
median over the rounds, with the lowest and highest; a ratio is ours over the peer's. The peers get environments of their own,
made by uv into the cache on the first run. The same scikit-learn models are served by all; ours compiles them at load.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlaas-tests"
PEERS = {
    "kserve": ["kserve==0.21.0", "scikit-learn==1.9.1"],
    "mlserver": ["mlserver==1.7.1", "mlserver-sklearn==1.7.1", "scikit-learn==1.9.1"],
    "pytriton": ["nvidia-pytriton==0.7.0", "scikit-learn==1.9.1"],
}
DEBIAN_PYTHON = "/usr/bin/python3.11"  # Triton's back end is linked against Debian's libpython


@dataclass
class Server:
    """A running server; `prefix` of its V2 models."""

    name: str
    http: int
    grpc: int
    process: subprocess.Popen[bytes]
    tensor: str = "x"


@dataclass
class Scenario:
    """One request, repeated by `clients` connections with `streams` requests at once on each."""

    name: str
    model: str
    body: bytes
    clients: int
    headers: dict[str, str] = field(default_factory=dict)
    streams: int = 1
    grpc: bool = False
    without: tuple[str, ...] = ()
    bars: dict[str, float] = field(default_factory=dict)


def environment(peer: str) -> Path:
    """The Python of a peer, made on the first run."""
    folder = CACHE / "peers" / peer
    python = folder / "bin" / "python"
    if not python.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        base = DEBIAN_PYTHON if Path(DEBIAN_PYTHON).exists() else sys.executable
        subprocess.run([uv, "venv", "-q", "--python", base, str(folder)], check=True)
        install = [uv, "pip", "install", "-q", "--system-certs", "--python", str(python)]
        subprocess.run([*install, *PEERS[peer]], check=True)
    return python


def h2load() -> list[str]:
    """The load generator: Debian's nghttp2-client, unpacked into the cache where it is not installed."""
    found = shutil.which("h2load")
    if found:
        return [found]
    root = CACHE / "nghttp2" / "root"
    if not (root / "usr/bin/h2load").exists():
        root.mkdir(parents=True, exist_ok=True)
        packages = ["nghttp2-client", "libnghttp2-14", "libev4", "libjansson4", "libc-ares2"]
        subprocess.run(["apt-get", "download", *packages], cwd=root.parent, check=True, stdout=subprocess.DEVNULL)
        for package in root.parent.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return ["env", f"LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu", str(root / "usr/bin/h2load")]


def train(folder: Path) -> None:
    """A logistic regression and a forest on iris, a logistic regression on 29 columns: as skops for us, joblib for the peers."""
    import joblib
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    random = np.random.default_rng(0)
    wide = random.random((2000, 29), dtype=np.float32)
    models = {
        "iris": LogisticRegression(max_iter=500).fit(rows, labels),
        "forest": RandomForestClassifier(100, random_state=0).fit(rows, labels),
        "wide": LogisticRegression(max_iter=500).fit(wide, (wide.sum(axis=1) > 14.5).astype(np.int64)),
    }
    for name, model in models.items():
        (folder / name).mkdir()
        skops.io.dump(model, folder / name / "model.skops")
        joblib.dump(model, folder / f"{name}.joblib")


def ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    found = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return found


def start(peer: str, folder: Path) -> Server:
    """Start a server on core 0, with nothing but one thread for its arithmetic."""
    http, grpc, more = ports(3)
    names = ["iris", "forest", "wide"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""}
    cwd = folder
    if peer == "mlaas":
        env["PYTHONPATH"] = str(HERE.parent / "src")
        command = [sys.executable, "-m", "mlaas", "serve", *(str(folder / name) for name in names)]
        command += ["--port", str(http), "--grpc-port", str(grpc)]
    elif peer == "mlserver":
        cwd = folder / "mlserver"
        settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": more}
        settings |= {"parallel_workers": 0, "debug": False}
        for name in names:
            (cwd / name).mkdir(parents=True)
            parameters = {"uri": str(folder / f"{name}.joblib")}
            implementation = "mlserver_sklearn.SKLearnModel"
            document = {"name": name, "implementation": implementation, "parameters": parameters}
            (cwd / name / "model-settings.json").write_text(json.dumps(document))
        (cwd / "settings.json").write_text(json.dumps(settings))
        command = [str(environment(peer).with_name("mlserver")), "start", "."]
    else:
        command = [str(environment(peer)), str(HERE / "peers" / f"{peer}_server.py")]
        models = [f"{name}={folder / name}.joblib" for name in names]
        if peer == "kserve":
            env["MODELS"] = " ".join(models)
            command += ["--http_port", str(http), "--grpc_port", str(grpc)]
        else:
            command += [*models, "--http", str(http), "--grpc", str(grpc)]
    log = (folder / f"{peer}.log").open("wb")
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command], stdout=log, stderr=log, cwd=cwd, env=env, start_new_session=True
    )
    return Server(peer, http, grpc, process)


def wait_ready(server: Server, folder: Path) -> None:
    import httpx2

    end = time.monotonic() + 120
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            if all(
                httpx2.get(f"http://127.0.0.1:{server.http}/v2/models/{name}/ready").status_code == 200
                for name in ("iris", "forest", "wide")
            ):
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{server.name} did not get ready:\n{(folder / f'{server.name}.log').read_text()[-2000:]}")


def scenarios() -> list[Scenario]:
    row = [5.1, 3.5, 1.4, 0.2]
    one = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]}).encode()
    many = np.random.default_rng(1).random((10_000, 29), dtype=np.float32)
    head = {"name": "x", "shape": [10_000, 29], "datatype": "FP32"}
    binary = json.dumps({"inputs": [{**head, "parameters": {"binary_data_size": many.nbytes}}]}).encode()
    text = json.dumps({"inputs": [{**head, "data": [round(float(value), 6) for value in many.reshape(-1)]}]}).encode()
    length = {"Inference-Header-Content-Length": str(len(binary)), "content-type": "application/octet-stream"}
    plain = {"content-type": "application/json"}
    return [
        Scenario("LR, 1 row JSON, 16 connections", "iris", one, 16, plain, bars={"kserve": 20, "pytriton": 10}),
        Scenario("RF(100), 1 row JSON, 16 connections", "forest", one, 16, plain, bars={"kserve": 100}),
        Scenario(
            "10,000 x 29 binary, 4 connections",
            "wide",
            binary + many.tobytes(),
            4,
            length,
            without=("mlserver",),
            bars={"pytriton": 4},
        ),
        Scenario(
            "10,000 x 29 JSON, 4 connections",
            "wide",
            text,
            4,
            plain,
            bars={"kserve": 3, "mlserver": 3, "pytriton": 3},
        ),
        Scenario("gRPC, 1 row, 64 streams", "iris", _grpc(row), 1, streams=64, grpc=True, bars={"pytriton": 1.2}),
    ]


def _grpc(row: list[float]) -> bytes:
    """A gRPC message frame with a ModelInferRequest (field numbers of the Open Inference Protocol), without its model's name:
    that is put in front for each server."""
    return np.asarray(row, dtype="<f4").tobytes()


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def body_for(scenario: Scenario) -> bytes:
    if not scenario.grpc:
        return scenario.body
    tensor = _field(1, b"x") + _field(2, b"FP32") + bytes([3 << 3 | 2]) + _varint(2) + bytes([1, 4])
    message = _field(1, scenario.model.encode()) + _field(5, tensor) + _field(7, scenario.body)
    return b"\0" + struct.pack(">I", len(message)) + message


def measure(server: Server, scenario: Scenario, folder: Path, seconds: float) -> float:
    """Requests a second. Raises SystemExit when any is not answered with success."""
    body = folder / "body"
    body.write_bytes(body_for(scenario))
    command = ["taskset", "-c", "1", *h2load(), "-c", str(scenario.clients), "-D", str(round(seconds)), "-d", str(body)]
    command += ["--warm-up-time", "1"]
    for name, value in scenario.headers.items():
        command += ["-H", f"{name}: {value}"]
    if scenario.grpc:
        command += ["-m", str(scenario.streams), "-H", "te: trailers", "-H", "content-type: application/grpc"]
        command.append(f"http://127.0.0.1:{server.grpc}/inference.GRPCInferenceService/ModelInfer")
    else:
        command += ["--h1", f"http://127.0.0.1:{server.http}/v2/models/{scenario.model}/infer"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", text)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if rate is None or codes is None or any(int(code) for code in codes.groups()[1:]):
        raise SystemExit(f"{server.name}, {scenario.name}:\n{text}")
    return float(rate[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder)
        servers: list[Server] = []
        try:
            for peer in ["mlaas", *options.peers]:
                servers.append(start(peer, folder))
                wait_ready(servers[-1], folder)
            run(servers, folder, options)
        finally:
            for server in servers:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()


def run(servers: list[Server], folder: Path, options: Any) -> None:
    for scenario in scenarios():
        if options.only and not any(word in scenario.name for word in options.only):
            continue
        taking = [server for server in servers if server.name not in scenario.without]
        found: dict[str, list[float]] = {server.name: [] for server in taking}
        for _ in range(options.rounds):
            for server in taking:
                found[server.name].append(measure(server, scenario, folder, options.seconds))
        ours = statistics.median(found["mlaas"])
        print(f"\n{scenario.name}")
        for peer, rates in found.items():
            middle = statistics.median(rates)
            spread = f"{min(rates):.0f} to {max(rates):.0f}"
            ratio = "" if peer == "mlaas" else f"   ours is {ours / middle:.1f} times"
            bar = scenario.bars.get(peer)
            aim = f" (aim {bar:g})" if bar else ""
            print(f"  {peer:<9} {middle:>9.0f} requests/s ({spread}){ratio}{aim}", flush=True)


if __name__ == "__main__":
    main()
