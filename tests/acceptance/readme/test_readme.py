"""What README.md and docs/serving.md show is run as it stands there: the pages are these tests' source."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.acceptance.readme.reader import Reader, answers, find
from tests.markdown import Block, blocks, section
from tests.platform import REPOSITORY, Platform, free_ports

README = (REPOSITORY / "README.md").read_text()
SERVING = (REPOSITORY / "docs" / "serving.md").read_text()
SERVE = blocks(section(README, "Serve a model"))


@pytest.fixture(scope="module")
def alone(checkout: Path) -> Iterator[Reader]:
    """`mlaas serve iris` as the page starts it."""
    http, grpc = free_ports(2)
    reader = Reader(checkout, {8002: http, 8003: grpc})
    reader.run(find(SERVE, "skops.io.dump"))
    (line,) = find(SERVE, "mlaas serve iris").code.splitlines()
    command = reader.command(Block("sh", f"exec {line}"))
    with subprocess.Popen(command, cwd=checkout, env=reader.environment, stdout=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + 60
            while not answers(http, "iris"):
                assert time.monotonic() < end
                assert server.poll() is None
                time.sleep(0.05)
            yield reader
        finally:
            server.terminate()


@pytest.mark.parametrize("words", ["curl http://127.0.0.1:8002", "tritonclient"])
def test_a_served_model_answers_the_clients_that_are_shown(alone: Reader, words: str) -> None:
    block = find(SERVE, words)
    assert block.shown
    alone.run(block)


def test_a_service_is_trained_served_and_asked_as_shown(beside: Reader, platform: Platform) -> None:
    described = beside.run(find(SERVE, "apply -f examples/iris/iris.yaml"))
    assert "service/iris Ready\n0\n" in described
    assert "sklearn, compiled" in described
    for words in ("client.ask(", "token create --service"):
        block = find(SERVE, words)
        assert block.shown
        beside.run(block)


def test_the_services_and_manifests_of_the_serving_page_apply_and_answer(platform: Platform, checkout: Path) -> None:
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    (checkout / "models" / "iris").mkdir(parents=True, exist_ok=True)
    model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    skops.io.dump(model, checkout / "models" / "iris" / "model.skops")
    parts = [
        part for title in ("A service", "KServe manifests", "Batching") for part in blocks(section(SERVING, title))
    ]
    documents = [block.code for block in parts if block.language == "yaml"]
    assert len(documents) >= 3
    for text in documents:
        text = text.replace("MODELS", str(checkout / "models"))
        document: dict[str, Any] = yaml.safe_load(text)
        name = str((document.get("meta") or document["metadata"])["name"])
        with platform.client() as client:
            (item,) = client.apply(text)["items"]
            assert "error" not in item, item
            end = time.monotonic() + 60
            while (status := client.get("services", name)["status"])["phase"] != "Ready":
                assert time.monotonic() < end, json.dumps(status, indent=1)
                time.sleep(0.05)
            assert client.ask(name, [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]) == [0, 2]
            client.delete("services", name)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_minute_goes_as_shown(beside: Reader, platform: Platform) -> None:
    first = find(blocks(section(README, "In 60 seconds")), "mlaas train --name strings")
    said = beside.run(first, timeout=900)
    assert "hello" in said
    labels = [line.split()[0] for line in said.splitlines() if "Frascati Natl Lab" in line or "Dept Phys" in line]
    assert labels == ["BA", "LNF"]
    with platform.client() as client:
        assert client.get("tasks", "strings")["status"]["evaluation"]["accuracy"] > 0.9
    form = blocks(section(README, "The institute's form"))
    home = Path(beside.environment["HOME"]) / ".local" / "share" / "mlaas"
    home.mkdir(parents=True)
    shutil.copy(platform.data / "admin-token", home / "admin-token")
    assert "task_id" in json.loads(beside.run(find(form, "/api/v1/tasks")))
    assert beside.run(find(form, "client.predict")).strip() == "BA"
