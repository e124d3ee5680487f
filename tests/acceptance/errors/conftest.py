"""A real platform in its own process, and what it says about bad input."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.transformers.conftest import affiliations, minilm, tiny_bert, write_csv  # noqa: F401
from tests.platform import Platform

Json = dict[str, Any]


class Asked:
    """The platform as a user of its HTTP interface sees it. No answer may be a 500 or show a stack trace."""

    def __init__(self, platform: Platform, token: str | None = None) -> None:
        self.platform = platform
        headers = {"Authorization": f"Bearer {token or platform.token}"}
        self.http = httpx2.Client(base_url=platform.url, headers=headers, timeout=120)

    def close(self) -> None:
        self.http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        answer = self.http.request(method, path, **options)
        assert answer.status_code < 500 or answer.status_code == 507, answer.text
        assert "Traceback" not in answer.text
        return answer

    def refused(self, body: Json, status: int = 422) -> Json:
        """The problem document of a task that is refused; nothing of it is kept."""
        before = self.count()
        answer = self.request("POST", "/api/v1/tasks", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert self.count() == before
        problem: Json = answer.json()
        assert problem["code"]
        assert problem["detail"]
        return problem

    def ended(self, body: Json) -> Json:
        """The answer of a task that was accepted, once it has ended."""
        answer = self.request("POST", "/api/v1/tasks", json=body, headers={"Prefer": "wait=30"})
        assert answer.status_code == 201, answer.text
        document: Json = answer.json()
        assert document["task_status"] in ("succeeded", "failed"), document
        return document

    def failed(self, body: Json) -> Json:
        """The error of a task that was accepted and failed, of a kind that was foreseen."""
        document = self.ended(body)
        assert document["task_status"] == "failed", document
        error: Json = document["error"]
        assert error["code"] not in ("internal", "failed"), error
        assert error["hint"]
        assert "Traceback" not in self.log(document)
        return error

    def said(self, body: Json) -> Json:
        """The first error, told at once or by a failed task: `{code, message, hint, field}`."""
        answer = self.request("POST", "/api/v1/tasks", json=body, headers={"Prefer": "wait=30"})
        document: Json = answer.json()
        if answer.status_code == 201:
            assert document["task_status"] == "failed", document
            assert "Traceback" not in self.log(document)
            error: Json = document["error"]
        else:
            first = document["errors"][0]
            error = {"code": document["code"], "hint": document.get("hint"), **first}
        assert error["code"] not in ("internal", "failed"), error
        return error

    def log(self, document: Json) -> str:
        name = next(
            task["meta"]["name"]
            for task in self.request("GET", "/api/v1/projects/-/tasks?limit=1000").json()["items"]
            if task["meta"]["uid"] == document["task_id"]
        )
        return self.request("GET", f"/api/v1/projects/default/tasks/{name}/logs").text

    def script(self, code: str, **more: Any) -> str:
        """The log of a shell script."""
        return self.log(self.ended({"script": {"command": ["sh", "-c", code]}, **more}))

    def count(self) -> int:
        return len(self.request("GET", "/api/v1/projects/default/tasks?limit=1000").json()["items"])


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture(scope="module")
def asked(platform: Platform) -> Iterator[Asked]:
    asked = Asked(platform)
    with asked.http:
        yield asked


@pytest.fixture(scope="module")
def files(platform: Platform, tiny_bert: Path) -> Path:  # noqa: F811
    """The local root: a small model in `model/`, a good data set in `good.csv`."""
    folder = platform.files
    subprocess.run(["cp", "-r", str(tiny_bert), str(folder / "model")], check=True)
    write_csv(folder / "good.csv", ["text", "label"], affiliations(40))
    return folder


def training(path: str = "good.csv", dataset: Json | None = None, **train: Any) -> Json:
    """A small training of `model` on a data set of the local root."""
    return {
        "model": {"path": "model", "storage_type": "local", "objective": "text-classification"},
        "dataset": {"path": path, "storage_type": "local", "train_test_split": 0.25, **(dataset or {})},
        "model_train": {"epochs": 1, "batch_size": 8, **train},
    }


def prediction(**changes: Any) -> Json:
    return {
        "model": {"path": "model", "storage_type": "local", "objective": "text-classification"},
        "predict_input": {"input_text": ["INFN, Bari"]},
        **changes,
    }
