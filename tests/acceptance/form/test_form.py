"""The institute's five bodies against a fresh platform: posted as JSON, as YAML and by `curl -d @file`, with everything on
the platform's disk, and with everything in S3."""

import datetime
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.acceptance.form import bodies
from tests.acceptance.form.conftest import ABSTRACTS, SITES, Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Post = Callable[[str], dict[str, Any]]


def numbers(body: str) -> Any:
    """YAML as its 1.2 core schema has it, where 2e-5 is a number: what a caller with a JSON library would send."""
    document = yaml.safe_load(body)
    if "model_train" in document:
        document["model_train"]["optimizer"]["init_lr"] = float(document["model_train"]["optimizer"]["init_lr"])
    return document


@pytest.fixture(params=["json", "yaml", "curl"])
def encoding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def post(place: Place, encoding: str, authorization: Path, tmp_path: Path) -> Post:
    """Post a body in this encoding and give the ended task's answer; the first answer must be a 201."""
    url = f"{place.platform.url}/api/v1/tasks"
    headers = {"Authorization": f"Bearer {place.platform.token}", "Prefer": "wait=30"}

    def send(body: str) -> tuple[int, dict[str, Any]]:
        if encoding == "curl":
            file = tmp_path / "input.json"
            file.write_text(json.dumps(numbers(body)))
            command = ["curl", "-sS", "-d", f"@{file}", "-H", f"@{authorization}", "-H", "Prefer: wait=30"]
            done = subprocess.run(
                [*command, "-w", "\n%{http_code}", url], capture_output=True, text=True, check=True, timeout=90
            )
            text, _, status = done.stdout.rpartition("\n")
            return int(status), json.loads(text)
        content, kind = (
            (json.dumps(numbers(body)), "application/json") if encoding == "json" else (body, "application/yaml")
        )
        answer = httpx2.post(url, content=content, headers={**headers, "Content-Type": kind}, timeout=90)
        return answer.status_code, answer.json()

    def run(body: str) -> dict[str, Any]:
        status, answer = send(body)
        assert status == 201, answer
        for _ in range(6):
            if answer["task_status"] in ("succeeded", "failed", "cancelled"):
                break
            answer = httpx2.get(f"{url}/{answer['task_id']}", headers=headers, timeout=90).json()
        assert answer["task_status"] == "succeeded", answer
        assert re.fullmatch(r"[0-9a-f-]{32,36}", answer["task_id"])
        submitted = datetime.datetime.fromisoformat(answer["stats"]["submitted"])
        assert submitted.tzinfo is None
        assert re.fullmatch(r"\d+:\d\d:\d\d", answer["stats"]["elapsed"])
        assert "error" not in answer
        return answer

    return run


def test_train_then_classify(place: Place, post: Post, encoding: str) -> None:
    saved = f"models/classifier-{encoding}"
    paths = {
        "path/to/tokenizer": "encoder",
        "path/to/model/to/load": "small",
        "path/to/dataset/to/load": "affiliations.csv",
        "path/to/model/to/save": saved,
    }
    answer = post(place.fill(bodies.TRAIN, paths))
    assert len(answer["history"]["loss"]) == len(answer["history"]["accuracy"]) == 10
    assert answer["history"]["loss"][-1] > 0
    assert set(answer["evaluation"]) >= {"loss", "accuracy"}
    assert 0 <= answer["evaluation"]["accuracy"] <= 1
    dataset = answer["dataset"]
    assert (dataset["samples_train"], dataset["samples_test"]) == (54, 6)
    assert dataset["tokens"] > 60 * 5
    for name in ("config.json", "model.safetensors", "tokenizer.json", ".mlaas.json"):
        assert place.holds(f"{saved}/{name}"), name
    paths = {"path/to/tokenizer": "encoder", "path/to/model": saved}
    (prediction,) = post(place.fill(bodies.CLASSIFY, paths))["predictions"]
    assert set(prediction) == {"label", "score", "scores"}
    assert set(prediction["scores"]) == set(SITES)
    assert prediction["label"] == max(prediction["scores"], key=prediction["scores"].get)
    assert prediction["score"] == prediction["scores"][prediction["label"]]
    assert sum(prediction["scores"].values()) == pytest.approx(1, abs=1e-4)


def test_fill_masks(place: Place, post: Post) -> None:
    paths = {"path/to/tokenizer": "encoder", "path/to/model": "filler"}
    (prediction,) = post(place.fill(bodies.FILL, paths))["predictions"]
    assert len(prediction["masks"]) == 3
    for candidates in prediction["masks"]:
        assert all(set(candidate) == {"token", "score"} for candidate in candidates)
        assert [c["score"] for c in candidates] == sorted((c["score"] for c in candidates), reverse=True)
    assert "[MASK]" not in prediction["text"]
    assert "electric charges" in prediction["text"].lower()


def test_index_then_search(place: Place, post: Post, encoding: str) -> None:
    saved = f"stores/abstracts-{encoding}"
    paths = {
        "path/to/tokenizer": "encoder",
        "path/to/model": "encoder",
        "path/to/dataset/to/load": "abstracts.csv",
        "path/to/vector/store/to/save": saved,
        "column-name": "abstract",
    }
    answer = post(place.fill(bodies.INDEX, paths))
    assert (answer["index"]["vectors"], answer["index"]["dimension"]) == (len(ABSTRACTS), 384)
    assert place.holds(f"{saved}/.mlaas.json")
    paths = {"path/to/tokenizer": "encoder", "path/to/model": "encoder", "path/to/vector/store/to/load": saved}
    (hits,) = post(place.fill(bodies.SEARCH, paths))["results"]
    assert len(hits) == 4
    assert (hits[0]["content"], hits[0]["metadata"]["project"]) == ABSTRACTS[0]
    assert [hit["score"] for hit in hits] == sorted(hit["score"] for hit in hits)
