"""A Python environment for clients whose pins conflict with ours (KServe's SDK): built once by uv from `requirements.txt`, with
hashes, into a cache outside the checkout. Scenario scripts of this folder run in it as programs.

`requirements.txt` is made from `requirements.in`:
    uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-index-url \
      --no-header --no-annotate requirements.in -o requirements.txt
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PINS = FOLDER / "requirements.txt"


def python() -> Path:
    """The environment's interpreter; built when it is not there. Raises CalledProcessError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlaas-tests"
    cache.mkdir(parents=True, exist_ok=True)
    name = f"clients-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:16]}-{sys.version_info[0]}.{sys.version_info[1]}"
    target = cache / name
    interpreter = target / "bin" / "python"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(target))
            _uv("pip", "sync", "--system-certs", "--require-hashes", "--python", str(interpreter), str(PINS))
            (target / "complete").touch()
    return interpreter


def run(script: str, *arguments: str, seconds: float = 120) -> str:
    """Run a script of this folder; what it wrote. Raises AssertionError with its output when it fails."""
    done = subprocess.run(
        [python(), FOLDER / script, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _uv(*arguments: str) -> None:
    program = Path(sys.executable).parent / "uv"
    subprocess.run([program if program.exists() else "uv", "--quiet", *arguments], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    print(python())
