"""What a task leaves is kept once, and never in the way of a list."""

import pytest

from mlaas.kernel.blobs.objects import FolderBlobs
from mlaas.kernel.blobs.tree import materialise
from mlaas.kernel.resource import Meta, Resource
from mlaas.kinds.task import answer
from mlaas.kinds.task.outcome import LARGE, keep, large_results


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path / "blobs")


async def test_the_output_folder_becomes_a_tree_and_again_the_same(blobs, tmp_path):
    folder = tmp_path / "output"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    kept = await keep(blobs, {"evaluation": {"loss": 1.0}}, str(folder))
    assert kept == await keep(blobs, {"evaluation": {"loss": 1.0}}, str(folder))
    materialise(blobs, kept["output"]["hash"], tmp_path / "copy")
    assert (tmp_path / "copy" / "deep" / "file").read_text() == "x"
    assert kept["evaluation"] == {"loss": 1.0}


async def test_nothing_is_made_of_an_empty_folder(blobs, tmp_path):
    (tmp_path / "output").mkdir()
    assert await keep(blobs, {}, str(tmp_path / "output")) == {}
    assert await keep(blobs, {}, None) == {}


async def test_large_results_stay_out_of_the_status_and_are_in_the_answer(blobs):
    predictions = [{"embedding": [0.5] * 384} for _ in range(2000)]
    kept = await keep(blobs, {"predictions": predictions, "warnings": ["w"]}, None)
    assert kept["large"]["keys"] == ["predictions"]
    assert kept["warnings"] == ["w"]
    assert len(str(kept)) < LARGE // 100
    task = Resource("task", Meta("a", created="2026-01-01T00:00:00.000Z"), {}, {"phase": "Succeeded", **kept})
    assert answer.whole(task, await large_results(blobs, task.status))["predictions"] == predictions


async def test_a_recipe_cannot_write_fields_that_are_the_platforms(blobs):
    assert await keep(blobs, {"phase": "Failed", "predictions": [1]}, None) == {"predictions": [1]}
