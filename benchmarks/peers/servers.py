"""The servers that are compared: how each is installed, given the models and started, on one core.

The peers get environments of their own, made by uv on the first run into the cache folder (XDG_CACHE_HOME, else ~/.cache), below
`mlaas-tests/peers`, one for each set of versions; a peer that cannot be installed is named with the reason and left out. All
serve the same scikit-learn models with one thread for arithmetic; Triton has its dynamic batcher on, MLServer runs the models in
its own process, as does KServe.
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "src"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlaas-tests"
OURS = "mlaas"
PEERS = {
    "kserve": ["kserve==0.21.0", "scikit-learn==1.9.1"],
    "mlserver": ["mlserver==1.7.1", "mlserver-sklearn==1.7.1", "scikit-learn==1.9.1"],
    "pytriton": ["nvidia-pytriton==0.7.0", "scikit-learn==1.9.1"],
}
MODELS = ("iris", "forest", "wide")
DEBIAN_PYTHON = "/usr/bin/python3.11"  # Triton's back end is linked against Debian's libpython
SERVER_CORE, LOAD_CORE = "0", "1"


@dataclass
class Server:
    """A running server with the ports of both protocols."""

    name: str
    http: int
    grpc: int
    process: subprocess.Popen[bytes]
    log: Path

    def cpu_seconds(self) -> float:
        """Processor time that it and all that it started have taken so far."""
        parents, spent = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                parents[int(stat.parent.name)] = int(fields[1])
                spent[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
        family = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return sum(spent.get(pid, 0) for pid in family) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def train(folder: Path) -> None:
    """A logistic regression and a forest of 100 trees on iris, a logistic regression on 29 columns: as skops for us, as joblib
    for the peers."""
    import joblib
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    wide = np.random.default_rng(0).random((2000, 29), dtype=np.float32)
    models = {
        "iris": LogisticRegression(max_iter=500).fit(rows, labels),
        "forest": RandomForestClassifier(100, random_state=0).fit(rows, labels),
        "wide": LogisticRegression(max_iter=500).fit(wide, (wide.sum(axis=1) > 14.5).astype(np.int64)),
    }
    for name, model in models.items():
        (folder / name).mkdir()
        skops.io.dump(model, folder / name / "model.skops")
        joblib.dump(model, folder / f"{name}.joblib")


def start(name: str, folder: Path, models: tuple[str, ...] = MODELS) -> Server:
    """Start a server of the models in `folder` (for a peer: those that `train` left there); it is not ready yet."""
    http, grpc, metrics = _ports(3)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""}
    env |= {"MLAAS_CACHE": str(folder / "cache")}
    cwd = folder
    if name == OURS:
        env["PYTHONPATH"] = str(SOURCES)
        command = [sys.executable, "-m", "mlaas", "serve", *(str(folder / model) for model in models)]
        command += ["--port", str(http), "--grpc-port", str(grpc)]
    elif name == "mlserver":
        cwd = _mlserver(folder, http, grpc, metrics)
        command = [str(environment(name) / "bin" / "mlserver"), "start", "."]
    else:
        command = [
            str(environment(name) / "bin" / "python"),
            str(HERE / f"{name}_server.py"),
            "--http_port",
            str(http),
            "--grpc_port",
        ]
        command += [str(grpc)]
        env["MODELS"] = " ".join(f"{model}={folder / model}.joblib" for model in MODELS)
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command], stdout=file, stderr=file, cwd=cwd, env=env, start_new_session=True
        )
    return Server(name, http, grpc, process, log)


def wait_ready(server: Server, models: tuple[str, ...] = MODELS) -> float:
    """Wait until every model is ready; the seconds it took. Raises SystemExit with the end of the log when it is not."""
    began = time.monotonic()
    while time.monotonic() - began < 120 and server.process.poll() is None:
        urls = [f"http://127.0.0.1:{server.http}/v2/models/{name}/ready" for name in models]
        with contextlib.suppress(httpx2.HTTPError):
            if all(httpx2.get(url).status_code == 200 for url in urls):
                return time.monotonic() - began
        time.sleep(0.1)
    raise SystemExit(f"{server.name} did not get ready:\n{server.log.read_text()[-3000:]}")


def install(peer: str) -> str:
    """Make sure that a peer's environment is there, made on the first run in a folder named after its versions; why it cannot be
    had here, "" where it can."""
    folder = environment(peer)
    if (folder / "installed").exists():
        return ""
    if peer == "pytriton" and not Path(DEBIAN_PYTHON).exists():
        return f"its back end needs Debian's Python, {DEBIAN_PYTHON}, which is not here"
    uv = str(Path(sys.executable).with_name("uv"))
    base = DEBIAN_PYTHON if Path(DEBIAN_PYTHON).exists() else sys.executable
    print(f"Installing {', '.join(PEERS[peer])} into {folder}", file=sys.stderr, flush=True)
    make = [uv, "venv", "-q", "--clear", "--python", base, str(folder)]
    fill = [uv, "pip", "install", "-q", "--system-certs", "--python", str(folder / "bin" / "python"), *PEERS[peer]]
    for command in (make, fill):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            return f"{uv} cannot be started ({error.strerror}): run `make setup`"
        except subprocess.CalledProcessError as error:
            return f"`{' '.join(command)}` failed: {error.stderr.strip()[-1000:]}"
    (folder / "installed").touch()
    return ""


def environment(peer: str) -> Path:
    """The folder of a peer's environment, outside the checkout."""
    versions = " ".join([*PEERS[peer], DEBIAN_PYTHON if Path(DEBIAN_PYTHON).exists() else sys.version])
    return CACHE / "peers" / f"{peer}-{hashlib.sha256(versions.encode()).hexdigest()[:12]}"


def _mlserver(folder: Path, http: int, grpc: int, metrics: int) -> Path:
    """The folder with MLServer's settings."""
    made = folder / "mlserver"
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    settings |= {"parallel_workers": 0, "debug": False}
    for name in MODELS:
        (made / name).mkdir(parents=True)
        document = {"name": name, "implementation": "mlserver_sklearn.SKLearnModel"}
        document |= {"parameters": {"uri": str(folder / f"{name}.joblib")}}
        (made / name / "model-settings.json").write_text(json.dumps(document))
    (made / "settings.json").write_text(json.dumps(settings))
    return made


def _ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    found = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return found
