"""Every setting of the platform: one table. A flag of `mlaas up` overrides its variable."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from mlaas.kernel.errors import Invalid


def default_data() -> Path:
    """`$XDG_DATA_HOME/mlaas` (XDG base directory specification 0.8)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "mlaas"


def state_file() -> Path:
    """Where `mlaas up` records address and token file for the commands on this machine."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mlaas" / "current.json"


def runtime_folder() -> Path:
    """A short folder for sockets: their path is limited to 107 bytes (unix(7))."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and len(base) < 60 and os.access(base, os.W_OK):
        return Path(base)
    return Path(tempfile.gettempdir()) if len(tempfile.gettempdir()) < 60 else Path("/tmp")  # noqa: S108


@dataclass(slots=True)
class Settings:
    """
    | variable            | meaning                                                              | default                    |
    |---------------------|----------------------------------------------------------------------|----------------------------|
    | MLAAS_DATA          | the data folder                                                      | $XDG_DATA_HOME/mlaas       |
    | MLAAS_HOST          | address to listen on                                                 | 127.0.0.1                  |
    | MLAAS_PORT          | port of the platform (API, pages)                                    | 8080                       |
    | MLAAS_INFERENCE_PORT| port of the model server, HTTP                                       | 8000                       |
    | MLAAS_GRPC_PORT     | port of the model server, gRPC                                       | 8001                       |
    | MLAAS_DOMAIN        | SERVICE.PROJECT.DOMAIN as a request's Host addresses that project     | none                       |
    | MLAAS_MODEL_MEMORY  | bytes that loaded models may take; those that may go to zero make room | no limit                  |
    | MLAAS_ACCESS_LOG    | 1: the model server writes a line a request into its log              | 0                          |
    | MLAAS_LOCAL_ROOTS   | folders that tasks may read and write, colon-separated               | start folder, DATA/files   |
    | MLAAS_S3_BUCKET     | bucket of S3 paths that are bare keys                                | none                       |
    | MLAAS_ADMIT         | 0: nothing is admitted, tasks stay queued                            | 1                          |
    | MLAAS_WARM          | 0: no warm fork server; recipes start slower, and nothing is imported | 1                          |
    | MLAAS_CPUS          | cores that workloads may use in all                                  | those of this process      |
    | MLAAS_MEMORY        | bytes that workloads may use in all                                  | 90% of the machine's       |
    | MLAAS_TLS_CERT, _KEY| serve HTTPS with these PEM files                                     | none                       |
    """

    data: Path = field(default_factory=default_data)
    host: str = "127.0.0.1"
    port: int = 8080
    inference_port: int = 8000
    grpc_port: int = 8001
    domain: str = ""
    access_log: bool = False
    model_memory: int = 0
    local_roots: list[Path] = field(default_factory=list)
    s3_bucket: str | None = None
    admit: bool = True
    warm: bool = True
    cpus: float | None = None
    memory: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @classmethod
    def from_environment(cls) -> "Settings":
        """Settings as the environment has them. Raises Invalid, naming the variable."""
        env = os.environ
        settings = cls(data=Path(env["MLAAS_DATA"]) if env.get("MLAAS_DATA") else default_data())
        settings.host = env.get("MLAAS_HOST", settings.host)
        settings.port = _number("MLAAS_PORT", settings.port)
        settings.inference_port = _number("MLAAS_INFERENCE_PORT", settings.inference_port)
        settings.grpc_port = _number("MLAAS_GRPC_PORT", settings.grpc_port)
        settings.domain = env.get("MLAAS_DOMAIN", "")
        settings.model_memory = max(0, _number("MLAAS_MODEL_MEMORY", 0))
        settings.access_log = env.get("MLAAS_ACCESS_LOG", "0") not in ("", "0")
        settings.s3_bucket = env.get("MLAAS_S3_BUCKET") or None
        settings.admit = env.get("MLAAS_ADMIT", "1") != "0"
        settings.warm = env.get("MLAAS_WARM", "1") != "0"
        settings.cpus = _float("MLAAS_CPUS", 0) or None
        settings.memory = _number("MLAAS_MEMORY", 0) or None
        if env.get("MLAAS_TLS_CERT"):
            settings.tls_cert = Path(env["MLAAS_TLS_CERT"])
        if env.get("MLAAS_TLS_KEY"):
            settings.tls_key = Path(env["MLAAS_TLS_KEY"])
        settings.local_roots = [Path(part) for part in env.get("MLAAS_LOCAL_ROOTS", "").split(":") if part]
        return settings

    def roots(self) -> list[Path]:
        """The folders that a task's paths may lie in, resolved; the first one is what relative paths are relative to."""
        roots = self.local_roots
        if not roots:
            here = Path.cwd().resolve()
            if here == Path("/"):
                raise Invalid(
                    "The platform was started in '/', which cannot be a root for tasks.",
                    field="MLAAS_LOCAL_ROOTS",
                    hint="Start it in another folder, or set MLAAS_LOCAL_ROOTS.",
                )
            roots = [here]
        return [root.resolve() for root in roots] + [(self.data / "files").resolve()]


def _number(name: str, default: int) -> int:
    return int(_float(name, default))


def _float(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{name} is '{text}', which is no number.", field=name) from None
