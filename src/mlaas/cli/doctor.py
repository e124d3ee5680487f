"""What `mlaas doctor` looks at: each check says its state (ok, warn, bad), what it found, and what to do."""

import importlib.util
import os
import shutil
import sys
from typing import Any

from mlaas.cli.context import client, options
from mlaas.client.errors import ApiError

Check = dict[str, Any]


def _check(name: str, state: str, message: str, hint: str | None = None) -> Check:
    return {"name": name, "state": state, "message": message, "hint": hint}


def examine() -> list[Check]:
    """Checks of this machine, then those that the platform makes of itself."""
    checks = [_python(), _frameworks(), _disk()]
    try:
        with client() as api:
            from mlaas.client import calls

            report = api.send(calls.doctor())
    except ApiError as error:
        if error.status == 403:
            said = f"answers at {api.connection.url}; what it finds when it looks at itself is for administrators"
            return [*checks, _check("platform", "ok", said)]
        state = "bad" if error.status else "warn"
        return [*checks, _check("platform", state, error.detail, error.hint)]
    checks.append(_check("platform", "ok", f"answers at {api.connection.url}"))
    return [*checks, *report["checks"]]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return _check("python", "ok", f"{version}, {os.cpu_count()} cores")


def _frameworks() -> Check:
    missing = [
        name
        for name in ("torch", "transformers", "tokenizers", "safetensors", "pyarrow", "faiss", "sklearn", "seqeval")
        if importlib.util.find_spec(name) is None
    ]
    if not missing:
        return _check("frameworks", "ok", "torch, transformers, faiss and pyarrow are installed")
    return _check("frameworks", "warn", f"not installed: {', '.join(missing)}", "pip install 'mlaas[torch]'")


def _disk() -> Check:
    from mlaas.kernel.settings import default_data

    folder = options.data or default_data()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state = "ok" if free > 5 << 30 else "warn"
    return _check("disk", state, f"{free / 2**30:.1f} GiB free under {folder}", None if state == "ok" else "Make room.")
