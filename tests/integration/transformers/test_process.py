"""The recipe in a process of its own, killed for real."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlaas.runtimes.taskfile import INTERRUPTED, TaskFile

from .conftest import affiliations, write_csv


def start(task: TaskFile, cwd: Path) -> "subprocess.Popen[bytes]":
    (cwd / "task.json").write_text(json.dumps(task.dump()))
    environment = os.environ | {"MLAAS_TASK_FILE": str(cwd / "task.json")}
    command = [sys.executable, "-m", "mlaas.runtimes.child", "mlaas.runtimes.transformers.finetune"]
    return subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.DEVNULL)


def when_checkpointed(process: "subprocess.Popen[bytes]", cwd: Path, beyond: str) -> str:
    """Wait for a checkpoint later than `beyond`; its name."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the training ended before it could be killed"
        names = sorted(path.name for path in cwd.glob("checkpoints/step-*"))
        if names and names[-1] > beyond:
            return names[-1]
        time.sleep(0.01)
    raise AssertionError("no checkpoint came")


@pytest.mark.slow
def test_a_process_killed_and_one_asked_to_stop_end_as_an_undisturbed_one(
    task: Callable[..., TaskFile], tiny_bert: Path, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "d.csv", ("text", "label"), affiliations(120))
    body = {
        "model": {"path": str(tiny_bert)},
        "dataset": {"path": str(data), "train_test_split": 0.2},
        "model_train": {"epochs": 60, "batch_size": 8, "optimizer": {"init_lr": 1e-3}, "checkpoint_every": 20},
    }
    made = task("finetune", body)
    results = []
    for name, signals in (("undisturbed", []), ("disturbed", [signal.SIGKILL, signal.SIGTERM])):
        cwd = tmp_path / name
        cwd.mkdir()
        reached = ""
        for number in signals:
            process = start(made, cwd)
            reached = when_checkpointed(process, cwd, reached)
            process.send_signal(number)
            assert process.wait(60) == (INTERRUPTED if number == signal.SIGTERM else -number)
        assert start(made, cwd).wait(200) == 0
        results.append(json.loads((cwd / "result.json").read_text())["result"])
    assert results[1]["training"]["resumed_at_step"] > 0
    assert results[0]["history"] == results[1]["history"]
    weights = [(tmp_path / name / "output/model.safetensors").read_bytes() for name in ("undisturbed", "disturbed")]
    assert weights[0] == weights[1]
