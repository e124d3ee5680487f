"""A training that is killed at any step goes on from its last checkpoint, and ends bit-equal to one that was not."""

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlaas.runtimes import child
from mlaas.runtimes.taskfile import Interrupted, TaskFile
from mlaas.runtimes.transformers import finetune, training

from .conftest import affiliations, write_csv

Make = Callable[..., TaskFile]
STEPS = 3 * 6


@pytest.fixture
def body(tiny_bert: Path, tmp_path: Path) -> dict[str, Any]:
    data = write_csv(tmp_path / "d.csv", ("text", "label"), affiliations(120))
    return {
        "model": {"path": str(tiny_bert)},
        "dataset": {"path": str(data), "train_test_split": 0.2},
        "model_train": {"epochs": 3, "batch_size": 16, "optimizer": {"init_lr": 1e-2}, "checkpoint_every": 4},
    }


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "output/model.safetensors").read_bytes()).hexdigest()


class Kill(BaseException):
    """Ends the process as kill -9 would: nothing is saved."""


def undisturbed(task: Make, body: dict[str, Any], workdir: Path) -> tuple[dict[str, Any], str]:
    result = finetune.main(task("finetune", body))
    digest = weights(workdir)
    shutil.rmtree(workdir / "output")
    shutil.rmtree(workdir / "checkpoints")
    return result, digest


def test_killed_at_random_steps(
    task: Make, body: dict[str, Any], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, digest = undisturbed(task, body, workdir)
    assert expected["training"]["steps"] == STEPS
    draw = random.Random(7)
    step = training.Training._between_steps
    for attempt, at in enumerate(sorted(draw.sample(range(1, STEPS), 3)), 2):

        def dying(self: training.Training, at: int = at) -> None:
            step(self)
            if self.step == at:
                raise Kill

        monkeypatch.setattr(training.Training, "_between_steps", dying)
        with pytest.raises(Kill):
            finetune.main(task("finetune", body, attempt=attempt))
    monkeypatch.setattr(training.Training, "_between_steps", step)
    torn = sorted((workdir / "checkpoints").glob("step-*"))
    assert 1 <= len(torn) <= 2
    result = finetune.main(task("finetune", body, attempt=9))
    assert result["training"]["resumed_at_step"] > 0
    assert result["history"] == expected["history"]
    assert result["evaluation"] == expected["evaluation"]
    assert weights(workdir) == digest


def test_sigterm_saves_at_once_and_a_torn_checkpoint_is_passed_over(
    task: Make, body: dict[str, Any], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, digest = undisturbed(task, body, workdir)
    body = body | {"model_train": body["model_train"] | {"checkpoint_every": 7}}
    polls = iter(range(1, 100))
    monkeypatch.setattr(training, "stopping", lambda: next(polls) == 10)
    with pytest.raises(Interrupted):
        finetune.main(task("finetune", body))
    whole = sorted(path.name for path in (workdir / "checkpoints").glob("step-*"))
    assert whole == ["step-000000007", "step-000000010"]
    (workdir / "checkpoints/step-000000010/state.safetensors").write_bytes(b"torn")
    monkeypatch.setattr(training, "stopping", child.stopping)
    result = finetune.main(task("finetune", body, attempt=2))
    assert result["training"]["resumed_at_step"] == 7
    assert result["history"] == expected["history"]
    assert weights(workdir) == digest


def test_a_checkpoint_of_another_training_is_not_taken(task: Make, body: dict[str, Any], workdir: Path) -> None:
    finetune.main(task("finetune", body))
    shutil.rmtree(workdir / "output")
    other = body | {"model_train": body["model_train"] | {"seed": 1}}
    assert finetune.main(task("finetune", other))["training"]["resumed_at_step"] == 0


@pytest.mark.parametrize(
    ("objective", "settings"), [("masked-lm", {}), ("text-classification", {"accumulation": 2, "lora": {}})]
)
def test_other_objectives_and_adapters_resume_too(
    task: Make,
    body: dict[str, Any],
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
    settings: dict[str, Any],
) -> None:
    body = body | {"model": body["model"] | {"objective": objective}, "model_train": body["model_train"] | settings}
    expected, digest = undisturbed(task, body, workdir)
    polls = iter(range(1, 100))
    monkeypatch.setattr(training, "stopping", lambda: next(polls) == 5)
    with pytest.raises(Interrupted):
        finetune.main(task("finetune", body))
    result = finetune.main(task("finetune", body, attempt=2))
    assert result["training"]["resumed_at_step"] == 5
    assert result["history"] == expected["history"]
    assert weights(workdir) == digest
