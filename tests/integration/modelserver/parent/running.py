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
