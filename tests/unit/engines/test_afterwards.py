"""How far checkpoints go, told by their folder."""

from pathlib import Path

import pytest

from mlaas.engines.local.afterwards import reached


def make(folder: Path, *names: str) -> float:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).mkdir(parents=True)
    return reached(folder)


@pytest.mark.parametrize(
    ("names", "far"),
    [
        (["step-000000060", "step-000000120"], 120),
        (["checkpoint-500", "checkpoint-1000", "runs"], 1000),
        (["epoch_3.pt"], 3),
        (["7"], 7),
        (["step-5", ".partial-9"], 5),
        (["step-" + "9" * 400], 0),
    ],
)
def test_the_highest_number_of_a_whole_one(tmp_path: Path, names: list[str], far: float) -> None:
    assert make(tmp_path / "checkpoints", *(name[:200] for name in names)) == far


def test_without_numbers_what_they_take_on_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert reached(folder) == 0
    folder.mkdir()
    with (folder / "vectors.npy").open("wb") as file:
        file.truncate(1 << 20)  # mapped into memory: its length says nothing
        empty = reached(folder)
        file.write(b"x" * (1 << 16))
    (folder / "vectors.json").write_text("{}")
    assert reached(folder) >= empty + (1 << 16)


def test_nothing_outside_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "step-9").mkdir(parents=True)
    (tmp_path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert reached(tmp_path / "checkpoints") == 0
