"""Who follows a page of the documentation, block by block."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
from tests.markdown import Block
from tests.platform import REPOSITORY


class Reader:
    """Who follows the page: in the checkout, with a home folder of their own. `ports` stand for those that it names."""

    def __init__(self, checkout: Path, ports: dict[int, int], **environment: str) -> None:
        self.checkout = checkout
        self.ports = ports
        home = checkout.parent / "home"
        home.mkdir(exist_ok=True)
        self.environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(REPOSITORY / "src"), **environment}
        for name in ("XDG_DATA_HOME", "MLAAS_URL", "MLAAS_TOKEN"):
            self.environment.pop(name, None)
        self.environment |= environment

    def command(self, block: Block) -> list[str]:
        code = block.code
        for written, real in self.ports.items():
            code = re.sub(rf"\b{written}\b", str(real), code)
        return ["bash", "-euo", "pipefail", "-c", code] if block.language == "sh" else [sys.executable, "-c", code]

    def run(self, block: Block, timeout: float = 120) -> str:
        """What it writes; it must not fail, and writes what the block says it does."""
        done = subprocess.run(
            self.command(block),
            capture_output=True,
            text=True,
            cwd=self.checkout,
            env=self.environment,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for line in block.shown:
            assert line in done.stdout.splitlines(), done.stdout + done.stderr
        return done.stdout


def find(parts: list[Block], words: str) -> Block:
    """The one block with these words."""
    (found,) = [block for block in parts if words in block.code]
    return found


def answers(port: int, name: str) -> bool:
    """Whether a model server at this port is ready to answer for a model."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            pass
        return httpx2.get(f"http://127.0.0.1:{port}/v2/models/{name}/ready", timeout=5).status_code == 200
    except OSError:
        return False
