"""A real platform in a process of its own, for tests, drills and benchmarks."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from mlaas.client import ApiError, Client

REPOSITORY = Path(__file__).resolve().parents[1]


def _die_with_parent() -> None:
    """A platform must not outlive a killed test run. It ends with the thread that started it: start it in the main one."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_ports(count: int) -> list[int]:
    """So many free ports of the loopback address, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


class Platform:
    """`mlaas up` over a folder. A context manager: on the way out it is stopped, and what it ran is killed.

    `folder` gets `data/`, `state/`, `log` and `files/` (the first local root, and where the platform is started).
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.files = folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.port, self.inference_port, self.grpc_port = free_ports(3)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "MLAAS_LOCAL_ROOTS": str(self.files),
            "PYTHONPATH": str(REPOSITORY / "src"),
            **environment,
        }

    def start(self, timeout: float = 30.0) -> float:
        """Start it; the seconds until `/readyz` said so."""
        command = [sys.executable, "-m", "mlaas", "up", "--data", str(self.data), "--port", str(self.port)]
        command += ["--inference-port", str(self.inference_port), "--grpc-port", str(self.grpc_port)]
        begin = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.files,
                env=self.environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the platform ended with {self.process.returncode}:\n{self.tail()}")
            if self._ready():
                return time.monotonic() - begin
            if time.monotonic() - begin > timeout:
                raise TimeoutError(f"the platform was not ready in {timeout:g} s:\n{self.tail()}")
            time.sleep(0.01)

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as sock:
                sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in sock.recv(64)
        except OSError:
            return False

    def tail(self, size: int = 3000) -> str:
        return self.log.read_bytes()[-size:].decode(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    def client(self, **options: str) -> Client:
        return Client(self.url, self.token, **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def __enter__(self) -> "Platform":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in leftovers(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def leftovers(data: Path) -> Iterator[int]:
    """Processes whose command, folder or environment names this data folder."""
    needle = os.fsencode(data)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            here = needle in (entry / "cmdline").read_bytes() or needle in (entry / "environ").read_bytes()
            here = here or os.fsencode((entry / "cwd").readlink()).startswith(needle)
        except OSError:
            continue
        if here:
            yield int(entry.name)


def gone(client: Client, plural: str, name: str) -> bool:
    try:
        client.get(plural, name)
    except ApiError as error:
        return error.status == 404
    return False
