"""Checkpoints: all that a training needs to go on as if it had never stopped.

`checkpoints/step-N/` holds `state.safetensors` (master weights, optimiser state, random states), `best.safetensors` (once
there is a best epoch) and `progress.json`, whose presence makes it whole: it is written last, and the folder renamed after it.
The last two are kept, so that one torn by a dying machine costs only time.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

KEEP = 2
_BEST, _STATE, _PROGRESS = "best.safetensors", "state.safetensors", "progress.json"


def write(
    root: Path, step: int, state: dict[str, torch.Tensor], best: torch.Tensor | None, progress: dict[str, Any]
) -> None:
    """Write the checkpoint of optimiser step `step` aside and rename it. `best` is left out when `progress["best"]` is that of
    the checkpoint before, whose file is then linked."""
    root.mkdir(parents=True, exist_ok=True)
    target, aside = root / f"step-{step:09d}", root / f".partial-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, aside / _STATE)
    if best is not None:
        previous = next((path for path, found in _whole(root) if found.get("best") == progress.get("best")), None)
        if previous is not None:
            os.link(previous / _BEST, aside / _BEST)
        else:
            save_file({"weights": best.detach().cpu()}, aside / _BEST)
    (aside / _PROGRESS).write_text(json.dumps(progress))
    for path in (*aside.iterdir(), aside):
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    _sync(root)
    for path in sorted(root.glob("step-*"), reverse=True)[KEEP:]:
        shutil.rmtree(path, ignore_errors=True)


def read(root: Path, key: str) -> tuple[dict[str, torch.Tensor], torch.Tensor | None, dict[str, Any]] | None:
    """(state, best, progress) of the latest whole checkpoint of this very training (`progress["key"]`); None if there is none."""
    for path, progress in _whole(root):
        if progress.get("key") != key:
            continue
        try:
            state = load_file(path / _STATE)
            best = load_file(path / _BEST)["weights"] if (path / _BEST).is_file() else None
        except Exception:  # noqa: S112  a torn file: safetensors has no error class of its own for it
            continue
        return state, best, progress
    return None


def _whole(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in sorted(root.glob("step-*"), reverse=True):
        try:
            found.append((path, json.loads((path / _PROGRESS).read_text())))
        except (OSError, ValueError):
            continue
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
