"""A real S3 server (versitygw) on loopback, for tests. Built once by Go into a cache outside the checkout.

`python -m tests.servers.s3` builds it ahead of time: `make test` does so first.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

VERSION = "v1.8.0"
MODULE = Path(__file__).parent / "s3gateway"
PROGRAM = "github.com/versity/versitygw/cmd/versitygw"
NO_GO = "there is no Go to build the S3 server with; install Go 1.25 or later (https://go.dev/dl) and put it on PATH"


def program_path() -> Path:
    """Where the server's program is kept, built or not."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "mlaas-tests" / f"versitygw-{VERSION}" / "versitygw"


def go() -> str | None:
    """Go's command: on PATH, or where Go's own archive is unpacked to."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def available() -> bool:
    """Whether the server is built or can be."""
    return program_path().exists() or go() is not None


def build() -> Path:
    """The server's program; built if this version is not in the cache. Raises CalledProcessError with Go's words."""
    program = program_path()
    cache = program.parent
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            partial = cache / "versitygw.partial"
            environment = {"HOME": str(Path.home())} | os.environ | {"GOFLAGS": "-p=2 -buildvcs=false"}
            command = [go() or "go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(partial), PROGRAM]
            subprocess.run(command, cwd=MODULE, check=True, env=environment)
            partial.rename(program)
    return program


@dataclass(frozen=True)
class S3:
    """A running server seen with one user's keys, and a bucket."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str = ""
    program: str = ""

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> object:
        """A boto3 client: a second opinion beside the code under test."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    def with_bucket(self) -> "S3":
        """The same server with a fresh bucket."""
        bucket = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
        return S3(self.endpoint, self.access_key, self.secret_key, bucket, self.program)

    def stranger(self) -> "S3":
        """A new user who may reach nothing of the bucket."""
        name, secret = f"user{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        command = [self.program, "admin", "--access", self.access_key, "--secret", self.secret_key]
        command += [
            "--endpoint-url",
            self.endpoint,
            "create-user",
            "--access",
            name,
            "--secret",
            secret,
            "--role",
            "user",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        return S3(self.endpoint, name, secret, self.bucket, self.program)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(folder: Path) -> Iterator[S3]:
    """A server that keeps its data below `folder`."""
    program = build()
    port, keys = _free_port(), ("root" + uuid.uuid4().hex[:8], uuid.uuid4().hex)
    for name in ("data", "iam", "meta"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    command = [str(program), "--quiet", "--port", f"127.0.0.1:{port}", "--region", "us-east-1", "--health", "/health"]
    command += ["--iam-dir", str(folder / "iam"), "posix", "--sidecar", str(folder / "meta"), str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            env=os.environ | {"ROOT_ACCESS_KEY_ID": keys[0], "ROOT_SECRET_ACCESS_KEY": keys[1]},
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait(endpoint + "/health", process, folder / "log")
        yield S3(endpoint, *keys, program=str(program))
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"versitygw did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """One server for all tests; skipped where it is not built and there is no Go to build it with."""
    if not available():
        pytest.skip(NO_GO)
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        with running(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server with a fresh bucket, and AWS_* of this process set to it."""
    server = s3_server.with_bucket()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return server


def main() -> int:
    """Build ahead of time, saying so; the exit code. Without Go the tests that need the server are skipped."""
    program = program_path()
    if not available():
        print(f"S3 tests will be skipped: {NO_GO}", file=sys.stderr)
        return 0
    if program.exists():
        return 0
    print(f"Building the S3 server for the tests, once, into {program.parent} (takes a few minutes)", flush=True)
    try:
        build()
    except subprocess.CalledProcessError as error:
        print(
            f"The S3 server of the tests cannot be built; Go ended with {error.returncode}, see above.", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
