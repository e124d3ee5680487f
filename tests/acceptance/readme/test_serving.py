"""The sections of docs/serving.md that show whole examples, followed from their first block to their last."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from tests.acceptance.readme.reader import Reader, answers
from tests.markdown import Block, blocks, section
from tests.platform import REPOSITORY, Platform, free_ports

PAGE = (REPOSITORY / "docs" / "serving.md").read_text()
SECTIONS = ("Custom predictors", "Transformers", "Graphs", "Remote servers", "Explanations", "Payload log")
_FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")


@pytest.fixture(scope="module")
def reader(platform: Platform, checkout: Path) -> Reader:
    """Who has a model at `models/iris` below the folder in which the platform was started."""
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    (checkout / "models" / "iris").mkdir(parents=True, exist_ok=True)
    model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    skops.io.dump(model, checkout / "models" / "iris" / "model.skops")
    http, grpc = free_ports(2)
    return Reader(checkout, {8002: http, 8003: grpc}, MLAAS_DATA=str(platform.data))


def write(reader: Reader, block: Block) -> bool:
    """Write a block that begins with the name of its file; whether it does."""
    named = _FILE.match(block.code)
    if named is None:
        return False
    path = reader.checkout / named[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = block.code[named.end() :].replace("FILES", str(reader.checkout))
    for written, real in reader.ports.items():
        text = re.sub(rf"\b{written}\b", str(real), text)
    path.write_text(text)
    return True


def serve(reader: Reader, block: Block) -> "subprocess.Popen[bytes]":
    """Start the server of a block, and wait until it answers for `iris`."""
    command = reader.command(Block("sh", f"exec {block.code}"))
    server = subprocess.Popen(command, cwd=reader.checkout, env=reader.environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not answers(reader.ports[8002], "iris"):
        assert time.monotonic() < end
        assert server.poll() is None
        time.sleep(0.05)
    return server


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_goes_as_shown(reader: Reader, title: str) -> None:
    servers = []
    try:
        for block in blocks(section(PAGE, title)):
            if write(reader, block):
                continue
            assert block.language == "sh", block.code
            if block.code.startswith("mlaas serve"):
                servers.append(serve(reader, block))
            else:
                reader.run(block)
    finally:
        for server in servers:
            server.terminate()
            server.wait(30)
