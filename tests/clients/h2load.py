"""h2load, nghttp2's load generator: Debian's package, unpacked into a cache outside the checkout where it is not installed."""

import fcntl
import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = ("nghttp2-client", "libnghttp2-14", "libev4", "libjemalloc2")


def command() -> list[str]:
    """How it is started. Raises CalledProcessError where it cannot be had."""
    if found := shutil.which("h2load"):
        return [found]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlaas-tests" / "nghttp2"
    root = cache / "root"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "usr/bin/h2load").exists():
            subprocess.run(["apt-get", "download", *_PACKAGES], cwd=cache, check=True, stdout=subprocess.DEVNULL)
            for package in sorted(cache.glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return ["env", f"LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu", str(root / "usr/bin/h2load")]


@dataclass(frozen=True)
class Load:
    """What a run says: requests by how they ended, answers by class of status, requests a second."""

    succeeded: int
    failed: int
    errored: int
    timeout: int
    good: int  # 2xx
    bad: int  # any other status
    rate: float


def run(url: str, body: Path, *options: str, seconds: float = 120) -> Load:
    """POST the file's bytes to `url`. Raises AssertionError with h2load's words when it does not say how it went."""
    done = subprocess.run(
        [*command(), "-d", str(body), *options, url], capture_output=True, text=True, timeout=seconds, check=False
    )
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", done.stdout)
    if counts is None or codes is None or rate is None:
        raise AssertionError(done.stdout + done.stderr)
    bad = sum(map(int, codes.groups()[1:]))
    return Load(*map(int, counts.groups()), int(codes[1]), bad, float(rate[1]))


def message(payload: bytes) -> bytes:
    """A gRPC message as it stands in DATA: not compressed, its length, its bytes."""
    return b"\0" + struct.pack(">I", len(payload)) + payload
