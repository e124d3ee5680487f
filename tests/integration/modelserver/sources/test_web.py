"""Files of a real web server, fetched into the cache once."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import files as file_server
from tests.servers.files import Files

from mlaas.kernel.errors import Error, Forbidden, Invalid, NotFound, Unavailable
from mlaas.modelserver.sources.fetch import Source, locate
from mlaas.modelserver.sources.progress import Progress

MODEL = bytes(range(256)) * 5000


@pytest.fixture
def files() -> Iterator[Files]:
    with file_server.running() as server:
        for folder in ("", "/private", "/broken", "/cut", "/plain", "/named"):
            server.content[f"{folder}/iris.onnx"] = MODEL
        yield server


def test_it_is_fetched_once(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = locate(f"{files.url}/iris.onnx", tmp_path)
    assert (found.name, found.path.name, found.path.read_bytes()) == ("iris", "iris.onnx", MODEL)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"Fetching {files.url}/iris.onnx (1.3 MB)"
    assert said[1].startswith(f"Fetched {files.url}/iris.onnx: 1.3 MB in ")
    assert locate(f"{files.url}/iris.onnx", tmp_path) == found
    assert capsys.readouterr().err == ""


def test_what_changed_is_fetched_again(files: Files, tmp_path: Path) -> None:
    first = locate(f"{files.url}/iris.onnx", tmp_path)
    files.content["/iris.onnx"] = b"another"
    second = locate(f"{files.url}/iris.onnx", tmp_path)
    assert (first.path.read_bytes(), second.path.read_bytes()) == (MODEL, b"another")


def test_without_a_validator_it_is_fetched_each_time(files: Files, tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        files.content["/plain/iris.onnx"] = content
        assert locate(f"{files.url}/plain/iris.onnx", tmp_path).path.read_bytes() == content


def test_a_digest_is_verified_and_is_enough_to_know_it_again(files: Files, tmp_path: Path) -> None:
    address = f"{files.url}/iris.onnx#sha256={hashlib.sha256(MODEL).hexdigest()}"
    found = locate(address, tmp_path)
    asked = len(files.requests)
    assert locate(address, tmp_path) == found
    assert len(files.requests) == asked
    wrong = f"{files.url}/iris.onnx#sha256={'0' * 64}"
    with pytest.raises(Invalid, match=f"its SHA-256 is {hashlib.sha256(MODEL).hexdigest()}"):
        locate(wrong, tmp_path)
    with pytest.raises(Invalid, match="not the file that was meant"):
        locate(wrong, tmp_path)  # what was refused is not in the cache


def test_a_download_that_breaks_off_goes_on(files: Files, tmp_path: Path) -> None:
    assert locate(f"{files.url}/broken/iris.onnx", tmp_path).path.read_bytes() == MODEL
    assert files.requests[-1][1]["range"] == f"bytes={len(MODEL) // 2}-"
    assert files.sent == len(MODEL)


def test_a_server_that_never_sends_all_is_given_up(files: Files, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be fetched") as refused:
        locate(f"{files.url}/cut/iris.onnx", tmp_path)
    assert refused.value.field == "source"
    assert len(files.requests) == 5


def test_credentials_of_a_netrc_file_and_of_the_address(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{files.url}/private/iris.onnx"
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(Forbidden, match=r"does not hand out .* \(401\)") as refused:
        locate(address, tmp_path)
    assert "machine 127.0.0.1 login NAME" in (refused.value.hint or "")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password s3cret\n")
    assert locate(address, tmp_path).path.read_bytes() == MODEL
    monkeypatch.delenv("NETRC")
    assert locate(address.replace("//", "//ada:s3cret@"), tmp_path).path.read_bytes() == MODEL
    assert "s3cret" not in capsys.readouterr().err
    kept = b"".join(path.read_bytes() for path in (tmp_path / "inputs").glob("*.last"))
    assert b"s3cret" not in kept


def test_what_was_fetched_is_served_while_its_server_is_away(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{files.url}/iris.onnx"
    found = locate(address, tmp_path)
    files.shutdown()
    files.server_close()
    capsys.readouterr()
    assert locate(address, tmp_path) == found
    assert "What was fetched before is served." in capsys.readouterr().err
    with pytest.raises(Unavailable, match="cannot be fetched"):
        locate(f"{files.url}/other.onnx", tmp_path)


def test_a_name_that_the_server_gives_is_no_path(files: Files, tmp_path: Path) -> None:
    found = locate(f"{files.url}/named/iris.onnx", tmp_path)
    assert found.path.name == "iris.onnx"
    assert found.path.is_relative_to(tmp_path / "inputs")


def test_it_leads_elsewhere(files: Files, tmp_path: Path) -> None:
    assert locate(f"{files.url}/moved/iris.onnx", tmp_path).path.read_bytes() == MODEL


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/nothing.onnx", NotFound, r"There is nothing at .*/nothing.onnx \(404\)"),
        ("/loop", Invalid, "without end"),
        ("/error", Unavailable, "cannot send"),
        ("/page", Invalid, "is a web page"),
        ("/iris.onnx#md5=1", Invalid, "says nothing about the file"),
    ],
)
def test_what_cannot_be_fetched_is_said(
    files: Files, tmp_path: Path, path: str, error: type[Error], words: str
) -> None:
    with pytest.raises(error, match=words) as refused:
        locate(f"{files.url}{path}", tmp_path)
    assert refused.value.field == "source"
    assert refused.value.hint or path == "/loop"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://models.example.org/iris.onnx", "Anybody on the way"),
        ("https:///iris.onnx", "names no server"),
        ("https://[::1/iris.onnx", "no address"),
        ("https://x:99999/iris.onnx", "no address"),
        ("gs://bucket/iris", "Nothing can be fetched from gs://"),
        ("git://host/iris", "Nothing can be fetched from git://"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        locate(source, tmp_path)


def test_a_path_is_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "a model.onnx").write_bytes(MODEL)
    found = locate((tmp_path / "a model.onnx").as_uri(), tmp_path)
    assert found == Source(tmp_path / "a model.onnx", "a model")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_on_a_terminal_is_rewritten() -> None:
    out = _Terminal()
    progress = Progress("https://x/y.onnx", out)
    progress.begin(2_000_000)
    progress._shown = 0.0
    progress.add(500_000)
    progress.add(1_500_000)
    progress.end()
    lines = out.getvalue().split("\r\x1b[K")[1:]
    assert lines[1] == "Fetching https://x/y.onnx: 500.0 kB of 2.0 MB (25%)"
    assert lines[-1].startswith("Fetched https://x/y.onnx: 2.0 MB in ")
    assert out.getvalue().count("\n") == 1
