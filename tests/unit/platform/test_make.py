"""What `make setup` says while it works: it takes minutes on a slow network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.platform import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def program(path: Path, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)
    return path


def setup(folder: Path, python: str | Path) -> "subprocess.CompletedProcess[str]":
    """`make setup` into this folder."""
    command = ["make", "setup", f"VENV={folder}", f"PYTHON={python}"]
    environment = {**os.environ, "HOME": str(folder.parent), "MAKEFLAGS": ""}
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_each_step_is_said_before_it_begins(tmp_path: Path) -> None:
    for name in ("python", "uv"):
        program(tmp_path / "bin" / name, "exit 0")
    got = setup(tmp_path, "python3")
    assert got.returncode == 0, got.stderr
    lines = [line for line in got.stdout.splitlines() if not line.startswith("make[")]  # it may itself run below make
    assert "about 6 GB" in lines[0]
    assert [line.strip()[:6] for line in lines[1:4]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert "mlaas up" in lines[4]


def test_a_python_that_is_too_old_is_said(tmp_path: Path) -> None:
    old = program(tmp_path / "old-python", '[ "$1" = --version ] && echo Python 3.9.2; exit 1')
    got = setup(tmp_path / "venv", old)
    assert got.returncode != 0
    assert "needs Python 3.11 or later" in got.stdout
    assert "is Python 3.9.2" in got.stdout
    assert "PYTHON=" in got.stdout
    assert not (tmp_path / "venv").exists()
