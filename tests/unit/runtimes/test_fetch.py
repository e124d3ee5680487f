import multiprocessing
from pathlib import Path

import pytest

from mlaas.kernel.blobs.objects import FolderBlobs
from mlaas.kernel.blobs.tree import put_tree
from mlaas.kernel.blobs.uri import file_uri
from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data import cache
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.taskfile import Input, TaskFile


def task_with(tmp_path: Path, uri: str, digest: str = "") -> TaskFile:
    return TaskFile(
        "u1", "n", "default", 1, "finetune", {},
        inputs={"model": Input(uri, digest)}, cache=str(tmp_path / "cache"), blobs=file_uri(tmp_path / "blobs"),
    )  # fmt: skip


def test_a_local_path_is_used_where_it_is(tmp_path: Path) -> None:
    place = tmp_path / "a b%20ü"
    place.mkdir()
    assert fetch(task_with(tmp_path, file_uri(place)), "model") == place


def test_what_is_gone_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="gone") as refused:
        fetch(task_with(tmp_path, file_uri(tmp_path / "gone")), "model")
    assert refused.value.field == "model"
    with pytest.raises(Invalid):
        fetch(task_with(tmp_path, "file:///x"), "tokenizer")


def test_a_kept_tree_comes_once_and_shares_its_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "weights").write_bytes(b"w" * 100)
    (source / "run.sh").write_text("#!/bin/sh")
    (source / "run.sh").chmod(0o755)
    blobs = FolderBlobs(tmp_path / "blobs")
    task = task_with(tmp_path, f"blobs:{put_tree(blobs, source)}")
    place = fetch(task, "model")
    assert (place / "sub" / "weights").read_bytes() == b"w" * 100
    assert (place / "sub" / "weights").stat().st_nlink == 2
    assert (place / "run.sh").stat().st_mode & 0o777 == 0o755
    assert fetch(task, "model") == place


def test_a_kept_tree_that_was_removed_says_so(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no longer kept"):
        fetch(task_with(tmp_path, "blobs:" + "0" * 64), "model")


def _fill(size: int, partial: Path) -> None:
    (partial / "content").write_bytes(b"x" * size)


def _use(folder: Path, identity: str, size: int) -> None:
    cache.entry(folder, identity, size, lambda partial: _fill(size, partial))


def _other_process(folder: Path, identity: str, size: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_use, args=(folder, identity, size))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_the_cache_is_bounded_and_never_drops_what_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLAAS_CACHE_BYTES", "250")
    _use(tmp_path, "mine", 100)
    _other_process(tmp_path, "old", 100)
    _other_process(tmp_path, "new", 100)
    kept = {item.name for item in (tmp_path / "inputs").iterdir() if item.is_dir()}
    assert len(kept) == 2
    calls: list[str] = []
    cache.entry(tmp_path, "mine", 100, lambda _: calls.append("mine"))
    assert calls == []


def test_an_interrupted_fetch_leaves_no_entry_and_goes_on(tmp_path: Path) -> None:
    def dies(partial: Path) -> None:
        (partial / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.entry(tmp_path, "x", 1, dies)

    def goes_on(partial: Path) -> None:
        assert (partial / "half").exists()
        _fill(1, partial)

    assert cache.entry(tmp_path, "x", 1, goes_on).read_bytes() == b"x"
