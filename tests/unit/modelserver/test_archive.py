"""Archives of models: unpacked once, and never beyond their folder."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlaas.kernel.errors import Invalid
from mlaas.modelserver import archive
from mlaas.modelserver.archive import is_archive, name_of, unpacked


def zipped(path: Path, *entries: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return path


def tarred(path: Path, *entries: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name, content in entries:
            item = tarfile.TarInfo(name)
            item.size = len(content)
            made.addfile(item, io.BytesIO(content))
    return path


PACK: dict[str, Callable[..., Path]] = {"model.zip": zipped, "model.tar.gz": tarred}


@pytest.mark.parametrize("name", PACK)
def test_an_archive_is_unpacked_once_and_its_only_folder_is_the_model(name: str, tmp_path: Path) -> None:
    made = PACK[name](tmp_path / name, ("iris/model.txt", b"tree"), ("iris/deep/er/x", b"1"))
    assert is_archive(made)
    folder = unpacked(made, "k", tmp_path / "cache")
    assert folder.name == "iris"
    assert (folder / "deep" / "er" / "x").read_bytes() == b"1"
    made.unlink()
    assert unpacked(made, "k", tmp_path / "cache") == folder


@pytest.mark.parametrize("name", PACK)
def test_files_without_a_folder_and_versions_stay_as_they_lie(name: str, tmp_path: Path) -> None:
    flat = PACK[name](tmp_path / name, ("model.txt", b"tree"), ("signature.json", b"{}"))
    assert (unpacked(flat, "a", tmp_path / "cache") / "model.txt").is_file()
    version = PACK[name](tmp_path / f"x-{name}", ("1/model.txt", b"tree"))
    assert (unpacked(version, "b", tmp_path / "cache") / "1" / "model.txt").is_file()


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("inner", ["../evil", "a/../../evil", "/evil", "a\\..\\evil", "C:/evil", "a/\nb"])
def test_a_path_that_leads_out_is_refused(name: str, inner: str, tmp_path: Path) -> None:
    made = PACK[name](tmp_path / name, ("model.txt", b"tree"), (inner, b"evil"))
    with pytest.raises(Invalid, match="leads out of it") as refused:
        unpacked(made, "k", tmp_path / "cache")
    assert refused.value.field == "source"
    assert not (tmp_path / "evil").exists()
    assert not list((tmp_path / "cache" / "unpacked").iterdir())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.tar", "w") as made:
        item = tarfile.TarInfo("model.txt")
        item.type, item.linkname = kind, "/etc/passwd"
        made.addfile(item)
    with pytest.raises(Invalid, match="a link or a device"):
        unpacked(tmp_path / "model.tar", "k", tmp_path / "cache")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as made:
        item = zipfile.ZipInfo("model.txt")
        item.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(item, "/etc/passwd")
    with pytest.raises(Invalid, match="a link or a device"):
        unpacked(tmp_path / "model.zip", "k", tmp_path / "cache")


@pytest.mark.parametrize("name", PACK)
def test_a_bomb_is_refused_before_it_fills_the_disk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_SMALL", 1 << 20)
    made = PACK[name](tmp_path / name, ("model.bin", bytes(8 << 20)))
    assert made.stat().st_size < 16 << 10
    with pytest.raises(Invalid, match="which no model does"):
        unpacked(made, "k", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "unpacked").iterdir())


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MEMBERS", 10)
    made = zipped(tmp_path / "model.zip", *((f"{at}", b"") for at in range(11)))
    with pytest.raises(Invalid, match="more than 10 files"):
        unpacked(made, "k", tmp_path / "cache")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    made = zipped(tmp_path / "model.zip", ("model.txt", b"one"), ("./model.txt", b"two"))
    with pytest.raises(Invalid, match="two files of one name"):
        unpacked(made, "k", tmp_path / "cache")


def encrypted(path: Path) -> None:
    """The flag of an encrypted file, set by hand in a plain archive."""
    content = bytearray(path.read_bytes())
    content[6] |= 1
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b"model.bin") + 60
    content[place : place + 40] = os.urandom(0) + bytes(40)
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [encrypted, cut, changed])
def test_a_zip_that_cannot_be_read_is_said_so(harm: Callable[[Path], None], tmp_path: Path) -> None:
    made = zipped(tmp_path / "model.zip", ("model.bin", bytes(range(256)) * 20))
    harm(made)
    with pytest.raises(Invalid, match=r"model\.zip"):
        unpacked(made, "k", tmp_path / "cache")


def test_what_is_no_archive_and_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"no archive at all")
    with pytest.raises(Invalid, match="is damaged"):
        unpacked(tmp_path / "model.tar.gz", "k", tmp_path / "cache")
    with pytest.raises(Invalid, match="is empty"):
        unpacked(zipped(tmp_path / "model.zip"), "k", tmp_path / "cache")


def test_names_lose_the_whole_suffix(tmp_path: Path) -> None:
    assert [name_of(Path(name)) for name in ("iris.tar.gz", "iris.zip", "iris.onnx", "v1.2.zip")] == [
        "iris", "iris", "iris", "v1.2",
    ]  # fmt: skip
    assert not is_archive(tmp_path / "model.keras")
