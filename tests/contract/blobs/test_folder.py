import os
from pathlib import Path

import pytest

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.contract import SweepContract
from mlaas.kernel.blobs.objects import FolderBlobs
from mlaas.kernel.errors import Invalid, NotFound, Unavailable


class TestFolder(SweepContract):
    @pytest.fixture
    def blobs(self, tmp_path_factory: pytest.TempPathFactory) -> Blobs:
        return FolderBlobs(tmp_path_factory.mktemp("blobs"))


def test_old_blobs_race_the_sweep_and_are_never_lost(tmp_path: Path) -> None:
    """The blob is old before each put, so the deleter is entitled to it until the very moment that the put renews it."""
    import threading

    blobs = FolderBlobs(tmp_path)
    digest = blobs.put(b"contended")
    done, removed, lost = threading.Event(), [], []

    def delete() -> None:
        while not done.is_set():
            if blobs.delete(digest, older_than=1000.0):
                removed.append(1)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for _ in range(2000):
            path = blobs.path(digest)
            if path is not None:
                try:
                    os.utime(path, (10, 10))
                except FileNotFoundError:
                    continue
            blobs.put(b"contended")
            if blobs.size(digest) is None:
                lost.append(1)
    finally:
        done.set()
        thread.join()
    assert lost == []
    assert removed


def test_what_writers_that_died_left_is_no_blob(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    (tmp_path / ".tmp-dead").write_bytes(b"half")
    assert list(blobs.list()) == []
    blobs.expire(older_than=(tmp_path / ".tmp-dead").stat().st_mtime + 1)
    assert not (tmp_path / ".tmp-dead").exists()


def test_damage_on_disk_is_noticed(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    digest = blobs.put(b"data")
    path = blobs.path(digest)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"dat?")
    with pytest.raises(Unavailable, match="damaged"):
        blobs.get(digest)


def test_a_tree_with_a_link_is_refused(tmp_path: Path) -> None:
    from mlaas.kernel.blobs.tree import put_tree

    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="symbolic link"):
        put_tree(FolderBlobs(tmp_path / "blobs"), source)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a//b", "a/./b", "", "a/../../b", "a\0b"])
def test_a_manifest_that_leaves_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    from mlaas.kernel.blobs.tree import Entry, encode, materialise

    blobs = FolderBlobs(tmp_path / "blobs")
    digest = blobs.put(encode([Entry(path, blobs.put(b"x"), 1)]))
    with pytest.raises(Invalid):
        materialise(blobs, digest, tmp_path / "target")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["blobs"]


def test_a_tree_of_which_a_file_is_gone_leaves_nothing(tmp_path: Path) -> None:
    from mlaas.kernel.blobs.tree import Entry, encode, materialise

    blobs = FolderBlobs(tmp_path / "blobs")
    digest = blobs.put(encode([Entry("a", blobs.put(b"x"), 1), Entry("b", "0" * 64, 1)]))
    with pytest.raises(NotFound):
        materialise(blobs, digest, tmp_path / "target")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["blobs"]
