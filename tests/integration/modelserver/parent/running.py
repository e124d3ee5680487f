"""A model server of real processes, told what to serve over its administration socket."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from mlaas.kernel.channel import Channel


class Running:
    """A parent with its fronts, and its administration socket."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, grpc: str, channel: Channel) -> None:
        self.process, self.url, self.grpc, self.channel = process, url, grpc, channel

    async def apply(self, *services: dict[str, Any], **more: Any) -> None:
        await self.channel.ask("apply", table={"services": list(services), **more})

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.channel.ask("status")
        return found

    async def get(self, path: str, body: Any = None) -> tuple[int, Any]:
        return await asyncio.to_thread(fetch, self.url + path, body)


def text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        found: str = answer.read().decode()
        return found


def fetch(url: str, body: Any) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def service(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    predictor = {"revision": folder.name, "source": str(folder), **more.pop("predictor", {})}
    return {"name": name, "predictor": predictor, "access": {"public": True}, **more}


_MODEL = '''
import os, time
from pathlib import Path
import numpy as np

class Model:
    """Says of each row which call it was in: y = 2x, and the number of rows of the call."""
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    outputs = [
        {"name": "y", "datatype": "FP32", "shape": [-1]},
        {"name": "rows", "datatype": "INT32", "shape": [-1]},
        {"name": "pid", "datatype": "INT32", "shape": [-1]},
    ]

    def predict(self, inputs):
        x = inputs["x"]
        if (x[:, 0] == 1000).any():
            time.sleep(0.4)
        elif len(x) == 1 or SLOW:
            time.sleep(SLOW)
        if (x[:, 0] == 666).any():
            raise ValueError("this row is bad")
        return {
            "y": x[:, 0] * 2, "rows": np.full(len(x), len(x), np.int32), "pid": np.full(len(x), os.getpid(), np.int32)
        }
'''


def model(folder: Path, slow: float = 0.0) -> Path:
    """A custom predictor in a folder, which takes `slow` seconds for a call; 0.4 s where a row begins with 1000. It raises where
    one begins with 666."""
    folder.mkdir()
    (folder / "model.py").write_text(f"SLOW = {slow}\n{_MODEL}")
    return folder


def served(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    """A service of a model whose code is trusted."""
    return service(name, folder, predictor={"trusted": True, **more.pop("predictor", {})}, **more)
