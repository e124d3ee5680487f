"""The suite that every implementation of `Blobs` passes: subclass, and give it a fixture `blobs`. Needs pytest."""

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.tree import materialise, put_tree, read_manifest, tree_hash
from mlaas.kernel.errors import Invalid, NotFound

MISSING = hashlib.sha256(b"nobody puts this").hexdigest()


class BlobsContract:
    """What readers and writers rely on."""

    @pytest.mark.parametrize("size", [0, 1, 100_000])
    def test_what_is_put_comes_back(self, blobs: Blobs, size: int) -> None:
        data = os.urandom(size)
        digest = blobs.put(data)
        assert digest == hashlib.sha256(data).hexdigest()
        assert blobs.get(digest) == data
        assert blobs.size(digest) == size

    def test_a_large_file_goes_in_and_out(self, blobs: Blobs, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "sub" / "target"
        source.write_bytes(os.urandom(20 << 20))
        digest = blobs.put(source)
        blobs.fetch(digest, target)
        assert target.read_bytes() == source.read_bytes()
        assert [item.name for item in target.parent.iterdir()] == ["target"]

    def test_ranges_are_half_open_and_end_with_the_blob(self, blobs: Blobs) -> None:
        digest = blobs.put(b"0123456789")
        assert blobs.get(digest, start=2, end=5) == b"234"
        assert blobs.get(digest, start=7) == b"789"
        assert blobs.get(digest, start=8, end=100) == b"89"
        assert blobs.get(digest, start=5, end=5) == b""
        assert blobs.get(digest, start=10) == b""

    def test_what_is_not_there(self, blobs: Blobs, tmp_path: Path) -> None:
        assert blobs.size(MISSING) is None
        with pytest.raises(NotFound):
            blobs.get(MISSING)
        with pytest.raises(NotFound):
            blobs.fetch(MISSING, tmp_path / "x")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("digest", ["../../etc/passwd", "", "A" * 64, "0" * 63])
    def test_what_is_no_hash_is_refused(self, blobs: Blobs, digest: str) -> None:
        with pytest.raises(Invalid):
            blobs.get(digest)

    def test_an_interrupted_fetch_goes_on(self, blobs: Blobs, tmp_path: Path) -> None:
        data = os.urandom(3 << 20)
        digest, target = blobs.put(data), tmp_path / "target"
        part = tmp_path / f".target.{digest[:16]}.part"
        part.write_bytes(data[: 1 << 20])
        inode = part.stat().st_ino
        blobs.fetch(digest, target)
        assert target.read_bytes() == data
        assert target.stat().st_ino == inode

    def test_a_damaged_part_is_not_handed_out(self, blobs: Blobs, tmp_path: Path) -> None:
        data = os.urandom(1000)
        digest, target = blobs.put(data), tmp_path / "target"
        (tmp_path / f".target.{digest[:16]}.part").write_bytes(b"\0" * 500)
        with pytest.raises(Exception, match="damaged"):
            blobs.fetch(digest, target)
        assert not target.exists()
        blobs.fetch(digest, target)
        assert target.read_bytes() == data

    def test_many_writers_of_one_blob(self, blobs: Blobs) -> None:
        data, failures = os.urandom(200_000), []

        def put() -> None:
            try:
                blobs.put(data)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=put) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert blobs.get(hashlib.sha256(data).hexdigest()) == data

    def test_a_folder_goes_in_and_out(self, blobs: Blobs, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        (source / "sub" / "empty").mkdir(parents=True)
        (source / "sub" / "ä b").write_bytes(os.urandom(1000))
        (source / "run").write_text("#!/bin/sh\n")
        (source / "run").chmod(0o755)
        (source / "nothing").touch()
        digest = put_tree(blobs, source)
        assert digest == tree_hash(source)
        assert [entry.path for entry in read_manifest(blobs, digest)] == ["nothing", "run", "sub/ä b"]
        materialise(blobs, digest, target)
        assert tree_hash(target) == digest
        assert os.access(target / "run", os.X_OK)


class SweepContract(BlobsContract):
    """Of those that the platform keeps itself: listing and removal."""

    def test_list(self, blobs: Blobs) -> None:
        before = time.time()
        digests = {blobs.put(b"one"): 3, blobs.put(b"three"): 5}
        found = {digest: size for digest, put, size in blobs.list() if before - 2 <= put <= time.time() + 2}
        assert found == digests

    def test_delete_spares_what_was_put_since(self, blobs: Blobs) -> None:
        digest = blobs.put(b"data")
        put = _put_time(blobs, digest)
        assert not blobs.delete(digest, older_than=put - 1)
        assert blobs.get(digest) == b"data"
        assert blobs.delete(digest, older_than=put + 1)
        assert blobs.size(digest) is None
        assert not blobs.delete(digest, older_than=put + 1)
        assert blobs.put(b"data") == digest
        assert blobs.get(digest) == b"data"

    def test_a_put_of_what_is_there_renews_its_time(self, blobs: Blobs) -> None:
        digest = blobs.put(b"data")
        first = _put_time(blobs, digest)
        deadline = time.monotonic() + 5
        while _put_time(blobs, digest) <= first and time.monotonic() < deadline:
            blobs.put(b"data")
        assert _put_time(blobs, digest) > first
        assert not blobs.delete(digest, older_than=first)
        assert blobs.get(digest) == b"data"

    def test_sweep_keeps_what_is_referred_to_and_what_is_new(self, blobs: Blobs, tmp_path: Path) -> None:
        from mlaas.kernel.blobs.sweep import sweep

        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "file").write_bytes(b"in the tree")
        kept, lost = put_tree(blobs, tmp_path / "source"), blobs.put(b"nobody's")
        latest = max(put for _, put, _ in blobs.list())
        assert sweep(blobs, [kept, MISSING], older_than=min(put for _, put, _ in blobs.list()) - 1) == 0
        assert sweep(blobs, [kept, MISSING], older_than=latest + 1) == 1
        assert blobs.size(lost) is None
        materialise(blobs, kept, tmp_path / "out")

    def test_sweeping_while_putting_loses_nothing(self, blobs: Blobs) -> None:
        """A deleter that always asks for what is older than the last put's start races writers of the same blob."""
        data, lost, done = b"contended", [], threading.Event()
        digest = hashlib.sha256(data).hexdigest()
        begun = [time.time()]

        def delete() -> None:
            while not done.is_set():
                blobs.delete(digest, older_than=begun[0] - 1.5)

        thread = threading.Thread(target=delete)
        thread.start()
        try:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                begun[0] = time.time()
                blobs.put(data)
                if blobs.size(digest) is None:
                    lost.append(begun[0])
        finally:
            done.set()
            thread.join()
        assert lost == []


def _put_time(blobs: Blobs, digest: str) -> float:
    return next(put for found, put, _ in blobs.list() if found == digest)
