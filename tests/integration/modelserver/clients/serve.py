"""`mlaas serve` in a process of its own."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[4]


@dataclass(frozen=True)
class Serving:
    """The addresses (`host:port`) of a server that answers, and its process."""

    http: str
    grpc: str
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://{self.http}"


@contextmanager
def serve(*arguments: str, seconds: float = 120) -> Iterator[Serving]:
    """Serve with these arguments until the block ends; every model is loaded (or has failed to) when it begins."""
    command = [sys.executable, "-m", "mlaas", "serve", "--port", "0", "--grpc-port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log, cwd="/")
        try:
            http, port = _address(process, Path(log.name), time.monotonic() + seconds)
            yield Serving(http, f"{http.rpartition(':')[0]}:{port}", process)
        finally:
            process.terminate()
            process.wait(30)
        assert process.returncode == 0, Path(log.name).read_text()


def _address(process: "subprocess.Popen[bytes]", log: Path, until: float) -> tuple[str, str]:
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"^Serving at http://(\S+), gRPC at port (\d+)", log.read_text(), re.MULTILINE):
            return found[1], found[2]
        time.sleep(0.02)
    raise AssertionError(log.read_text())
