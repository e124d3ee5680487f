"""What tests of services do again and again."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
from tests.platform import Platform

from mlaas.client import Client

ROWS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]}


def until(client: Client, name: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 90) -> dict[str, Any]:
    """The status once `holds`; fails with the last one."""
    end = time.monotonic() + seconds
    while True:
        found = client.get("services", name)
        status: dict[str, Any] = found["status"]
        if status.get("observed_generation") == found["meta"]["generation"] and holds(status):
            return status
        assert time.monotonic() < end, json.dumps(status, indent=1)
        time.sleep(0.05)


def ready(status: dict[str, Any]) -> bool:
    assert status["phase"] != "Failed", status
    return bool(status["phase"] == "Ready" and status.get("revision") == status.get("latest"))


def service(name: str, model: str, **spec: Any) -> dict[str, Any]:
    return {"kind": "service", "meta": {"name": name}, "spec": {"predictor": {"model": model}, **spec}}


def ask(url: str, token: str = "", body: Any = None, **headers: str) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["authorization"] = f"Bearer {token}"
    answer = httpx2.post(url, json=ROWS if body is None else body, headers=sent, timeout=60)
    return answer.status_code, answer.json()


def act(platform: Platform, method: str, path: str, body: Any = None) -> Any:
    """One request of the administrator's at the platform."""
    headers = {"authorization": f"Bearer {platform.token}"}
    answer = httpx2.request(method, f"{platform.url}/api/v1/{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None
