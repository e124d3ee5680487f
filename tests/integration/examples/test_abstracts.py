"""The generated abstracts, and the chain's search for the project they come from."""

from pathlib import Path

import pytest
from examples.abstracts import chain
from examples.abstracts.generate import rows, write
from examples.abstracts.topics import projects
from examples.affiliations.model import base_model
from tests.platform import Platform


def test_the_abstracts_are_deterministic_and_held_back_ones_are_new(tmp_path: Path) -> None:
    assert len({project.name for project in projects()}) == len(projects()) >= 24
    assert rows(50, 3) == rows(50, 3)
    assert rows(50, 3) != rows(50, 4)
    documents, queries = write(tmp_path, 300, 60)
    kept, held = documents.read_text().splitlines()[1:], queries.read_text().splitlines()[1:]
    assert (len(kept), len(held)) == (300, 60)
    assert not set(kept) & set(held)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_chain_runs_and_says_how_often_the_project_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Platform(tmp_path) as platform, platform.client() as client:
        shares = chain.run(client, platform.files, base_model(), documents=204, queries=68, epochs=(1, 1))
        tasks = client.list("tasks")["items"]
    untuned, masked, contrasted = shares
    # By chance it would be 1/34. So few documents and steps show that the chain works; what tuning gains, only the example's
    # own size shows.
    assert 0.3 < untuned < 1
    assert masked > 0.2
    assert contrasted > 0.2
    assert sorted(task["spec"]["recipe"] for task in tasks) == ["finetune"] * 2 + ["index"] * 3 + ["search"] * 3
    said = capsys.readouterr().out
    assert f"recall@1 before tuning: {untuned:.3f}" in said
    assert f"recall@1 after masked-lm: {masked:.3f}" in said
    assert f"recall@1 after masked-lm and contrast: {contrasted:.3f}" in said
    assert "Event Ho... -> CSN4/Teongrav (from CSN4/Teongrav)" in said
