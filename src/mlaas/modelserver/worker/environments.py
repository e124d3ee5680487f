"""Python environments of their own for models that name requirements: built once with uv, found by hash.

    CACHE/environments/KEY/           a virtual environment that is complete; its time stamp is that of its last use
    CACHE/environments/.KEY.lock      held while it is being built

KEY is the hash of the requirements, the interpreter's version, this machine's kind and our version. An environment is built
beside its place and renamed: it is there whole or not at all. Besides its requirements it has NumPy, msgspec and
PyYAML, which our part of a worker needs.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlaas.kernel.errors import Invalid, Unavailable

SECONDS = 1800.0
"""How long a build may take."""
_FIELD = "environment"
_BASE = ("numpy", "msgspec", "pyyaml")
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PASSED_PREFIX = (
    "UV_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
_NETWORK = ("Failed to fetch", "error sending request", "dns error", "Connection refused", "operation timed out")
_LINES = 15


def build(requirements: Sequence[str], cache: Path) -> Path:
    """The interpreter of an environment with these requirements; blocking, and quick when it is there already.

    Requirements are those of `pip install` (PEP 508); options are refused. Raises Invalid with uv's last lines when they cannot
    be had together, Unavailable when packages cannot be fetched now.
    """
    wanted = sorted({requirement.strip() for requirement in requirements if requirement.strip()})
    for requirement in wanted:
        if requirement.startswith("-"):
            raise Invalid(
                f"'{requirement}' is an option, not a requirement.",
                field=_FIELD,
                hint="Where packages come from is set for the server, by uv's environment variables.",
            )
    folder = cache / "environments"
    target = folder / key(wanted)
    python = target / "bin" / "python"
    if not python.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not python.exists():
                _build(wanted, target)
    os.utime(target)
    return python


def key(requirements: Sequence[str]) -> str:
    """What names the environment of (sorted) requirements."""
    try:
        ours = version("mlaas")
    except PackageNotFoundError:
        ours = ""
    parts = [list(requirements), sys.version, platform.machine(), ours]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _build(requirements: list[str], target: Path) -> None:
    uv = _uv()
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _run([uv, "venv", "--quiet", "--relocatable", "--allow-existing", "--python", sys.executable, str(made)])
        python = str(made / "bin" / "python")
        base = [name for name in _BASE if not any(_names(requirement, name) for requirement in requirements)]
        _run([uv, "pip", "install", "--system-certs", "--compile-bytecode", "--python", python, *base, *requirements])
        (made / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
        made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _names(requirement: str, package: str) -> bool:
    rest = requirement.lower().removeprefix(package)
    return rest != requirement.lower() and (not rest or not (rest[0].isalnum() or rest[0] in "-_."))


def _uv() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    found = beside if os.access(beside, os.X_OK) else shutil.which("uv")
    if not found:
        raise Invalid(
            "A model with an environment of its own needs the program `uv`, which is not there.",
            field=_FIELD,
            hint="`pip install uv`.",
        )
    return found


def _run(command: list[str]) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIX)
    }
    environment |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_NO_CONFIG": "1"}
    try:
        ended = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise Invalid(f"The environment was not built within {SECONDS:.0f} s.", field=_FIELD) from error
    if not ended.returncode:
        return
    said = [line.rstrip() for line in ended.stderr.splitlines() if line.strip()][-_LINES:]
    text = "\n".join(said) or f"uv ended with {ended.returncode}."
    if any(word in text for word in _NETWORK):
        raise Unavailable(f"The packages of the model's environment cannot be fetched now:\n{text}")
    raise Invalid(
        f"The model's environment cannot be built:\n{text}", field=_FIELD, hint="Change its requirements as said above."
    )
