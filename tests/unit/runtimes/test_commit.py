import errno
import json
from pathlib import Path

import pytest

from mlaas.kernel.blobs.tree import tree_hash
from mlaas.kernel.blobs.uri import file_uri
from mlaas.kernel.errors import Exists, Full
from mlaas.runtimes.commit import check_target, commit, committed
from mlaas.runtimes.taskfile import TaskFile


def task_for(target: Path | None, uid: str = "u1", attempt: int = 1) -> TaskFile:
    outputs = {} if target is None else {"model_save": file_uri(target)}
    return TaskFile(uid, "n", "default", attempt, "finetune", {}, outputs=outputs)


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(b"\0" * 1000)


def test_a_target_appears_whole_with_its_mark(tmp_path: Path) -> None:
    target = tmp_path / "models" / "a model"
    done = commit(task_for(target), "model_save", write)
    assert done == {"uri": file_uri(target), "hash": tree_hash(target)}
    assert json.loads((target / ".mlaas.json").read_text()) == {"task": "u1", "attempt": 1, "hash": done["hash"]}
    assert [item.name for item in target.parent.iterdir()] == ["a model"]


def test_a_repeated_attempt_is_success_and_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model"
    done = commit(task_for(target), "model_save", write)
    again = task_for(target, attempt=2)
    assert committed(again, "model_save") == check_target(again, "model_save") == done

    def refuse(_: Path) -> None:
        raise AssertionError

    assert commit(again, "model_save", refuse) == done


@pytest.mark.parametrize("there", ["file", "folder", "link", "other task"])
def test_any_other_target_is_refused_before_the_work(tmp_path: Path, there: str) -> None:
    target = tmp_path / "model"
    if there == "file":
        target.write_text("x")
    elif there == "folder":
        target.mkdir()
    elif there == "link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        commit(task_for(target, uid="u0"), "model_save", write)
    with pytest.raises(Exists) as refused:
        check_target(task_for(target), "model_save")
    assert refused.value.field == "model_save"


def test_a_target_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def slow(folder: Path) -> None:
        write(folder)
        target.mkdir()
        (target / "precious").touch()

    with pytest.raises(Exists):
        commit(task_for(target), "model_save", slow)
    assert [item.name for item in tmp_path.rglob("*")] == ["model", "precious"]


def test_leftovers_of_this_task_go_and_of_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "model"
    (tmp_path / "model.partial-u1-1").mkdir()
    (tmp_path / "model.partial-u2-1").mkdir()
    commit(task_for(target, attempt=2), "model_save", write)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model", "model.partial-u2-1"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("No space left on device (os error 28)")]
)
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    def full(folder: Path) -> None:
        write(folder)
        raise error

    with pytest.raises(Full) as refused:
        commit(task_for(tmp_path / "model"), "model_save", full)
    assert refused.value.field == "model_save"
    assert list(tmp_path.iterdir()) == []


def test_without_a_target_it_goes_to_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").mkdir()
    done = commit(task_for(None), "model_save", write)
    assert done == {"uri": f"blobs:{done['hash']}", "hash": tree_hash(tmp_path / "output")}
    assert committed(task_for(None, attempt=2), "model_save") == done
