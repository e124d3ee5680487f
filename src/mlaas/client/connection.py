"""Where the platform is and which token opens it.

In this order: what the caller says; `MLAAS_URL` and `MLAAS_TOKEN`; the data folder given (or `MLAAS_DATA`); what `mlaas up` on
this machine recorded in `$XDG_STATE_HOME/mlaas/current.json`; the default address.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Connection:
    """`local`: the platform runs on this machine, so that relative paths can mean the caller's folder."""

    url: str
    token: str | None = field(repr=False)
    local: bool
    ca: str | None = None


def state_file() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mlaas" / "current.json"


def _recorded(data: Path | None) -> dict[str, Any]:
    """What `mlaas up` wrote: into the data folder (`DATA/current.json`) and into the state folder."""
    try:
        record = json.loads((data / "current.json" if data else state_file()).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _read_token(path: str | Path | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def find(url: str | None = None, token: str | None = None, data: str | Path | None = None) -> Connection:
    """The connection to use. Never fails: whether anything answers there is found out by asking."""
    folder = Path(data) if data else Path(os.environ["MLAAS_DATA"]) if os.environ.get("MLAAS_DATA") else None
    url = url or (None if data else os.environ.get("MLAAS_URL"))
    token = token or (None if data else os.environ.get("MLAAS_TOKEN"))
    record = _recorded(folder)
    if url is not None and url.rstrip("/") != record.get("url"):
        local = any(f"//{host}" in url for host in ("127.", "localhost", "[::1]"))
        return Connection(url.rstrip("/"), token, local, os.environ.get("MLAAS_CA"))
    token_file = record.get("token_file") or (folder / "admin-token" if folder else None)
    return Connection(
        record.get("url") or DEFAULT_URL, token or _read_token(token_file), True, os.environ.get("MLAAS_CA")
    )
