"""The two clients are one text: the synchronous one is the asynchronous one without its awaits."""

import re
import subprocess
import sys
from pathlib import Path

import mlaas.client

FOLDER = Path(mlaas.client.__file__).parent
RULES = [
    (r"from collections\.abc import AsyncIterator", "from collections.abc import Iterator"),
    (r"import asyncio\n", ""),
    (r"await asyncio\.sleep", "time.sleep"),
    (r"asynchronously", "synchronously"),
    (r"The asynchronous client: `mlaas\.client\.sync`, awaited\.", "The synchronous client."),
    (r"an asynchronous context manager", "a context manager"),
    (r"AsyncIterator", "Iterator"),
    (r"AsyncClient", "Client"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"\.aclose\(", ".close("),
    (r"\.aread\(", ".read("),
    (r"\.aiter_", ".iter_"),
    (r"async (def|with|for)", r"\1"),
    (r"await ", ""),
]


def test_sync_client_is_the_async_one_without_awaits() -> None:
    text = (FOLDER / "asynchronous.py").read_text()
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FOLDER / "sync.py"), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        cwd=FOLDER,
    ).stdout
    normal = re.compile(r"\(\s*|\s*\)|\s+")
    assert normal.sub("", formatted) == normal.sub("", (FOLDER / "sync.py").read_text())
