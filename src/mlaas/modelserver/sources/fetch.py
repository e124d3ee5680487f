"""Where a source of `mlaas serve` lies on this disk, and what it is called.

| source                        | lies in                     | known again by               |
|-------------------------------|-----------------------------|------------------------------|
| a path, file:///path          | its place                   |                              |
| s3://bucket/key               | CACHE/inputs                | entity tags of its objects   |
| https://server/path, http://  | CACHE/inputs                | see `sources.web`            |
| hf://org/name[@revision]      | the hub's cache (`HF_HOME`) | the commit                   |

What was fetched before is served while the server that it came from does not answer. An entry of the cache stays until this
process ends. Everything here blocks.
"""

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from mlaas.kernel.blobs.uri import HubAddress, file_path, split_s3
from mlaas.kernel.errors import Error, Forbidden, Invalid, Unavailable
from mlaas.modelserver.archive import name_of
from mlaas.modelserver.sources.progress import Progress
from mlaas.runtimes.data import cache
from mlaas.runtimes.taskfile import Input

_FIELD = "source"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL for a server that is not Amazon's"


@dataclass(frozen=True, slots=True)
class Source:
    """A folder or a file, and the name that it has from where it came."""

    path: Path
    name: str


def locate(source: str, folder: Path) -> Source:
    """The source on this disk; what is elsewhere is fetched into the cache `folder` first, with a line of progress.

    Raises Invalid for a source that is not there or of an unknown scheme, NotFound, Forbidden, Unavailable; all name `source`.
    """
    found = _SCHEME.match(source)
    scheme = found[1].lower() if found else ""
    if scheme in ("", "file"):
        path = file_path(source).expanduser().absolute()
        if not path.exists():
            raise Invalid(f"There is no folder or file at {path}.", field=_FIELD)
        return Source(path, path.name if path.is_dir() else name_of(path))
    try:
        if scheme == "s3":
            return _s3(source, folder)
        if scheme in ("http", "https"):
            return _web(source, folder)
        if scheme == "hf":
            return _hub(source, folder)
    except OSError as error:
        raise Unavailable(f"{source[:200]} cannot be kept: {error.strerror or error}.", field=_FIELD) from None
    raise Invalid(
        f"Nothing can be fetched from {scheme}://.", field=_FIELD, hint="Serve a folder, s3://, https:// or hf://."
    )


def _s3(uri: str, folder: Path) -> Source:
    from mlaas.kernel.blobs import s3
    from mlaas.runtimes.data.s3 import fetch_s3

    progress = Progress(uri)
    _, key = split_s3(uri)
    try:
        found = s3.listing(uri, _FIELD)
        identity, inside = f"{uri}\0{found.hash}", found.objects[0].name if found.single else ""
        content = fetch_s3(folder, _FIELD, Input(uri, found.hash), progress)
        progress.end()
        _remember(folder, uri, identity, inside)
    except Forbidden as error:
        progress.broken()
        keys = bool(os.environ.get("AWS_ACCESS_KEY_ID"))
        what = (
            f"S3 denies access to {uri} with these keys." if keys else f"There are no keys for S3 to read {uri} with."
        )
        raise Forbidden(what, field=_FIELD, hint=f"Set {_KEYS}.") from error
    except Unavailable as error:
        progress.broken()
        error.hint = f"Check the network and the variables {_KEYS}."
        content = _kept(folder, uri, error)
    return Source(content, key.rpartition("/")[2] if content.is_dir() else name_of(content))


def _web(uri: str, folder: Path) -> Source:
    from mlaas.modelserver.sources import web

    address = web.parse(uri)
    progress = Progress(address.shown)
    try:
        path, identity = web.fetch(address, folder, progress)
        progress.end()
        _remember(folder, uri, identity, path.name)
    except Unavailable as error:
        progress.broken()
        path = _kept(folder, uri, error)
    except Error:
        progress.broken()
        raise
    return Source(path, name_of(path))


def _hub(uri: str, folder: Path) -> Source:
    from mlaas.kernel.blobs import hub

    address = hub.parse(uri, "model", _FIELD)
    exact = HubAddress(address.repo, hub.commit_of(address, _FIELD), address.repo_type)
    path, complete = hub.snapshot(exact), _record(folder, str(exact))
    if not (complete.exists() and path.is_dir()):
        path = _fetched(exact, new=not path.is_dir())
        complete.parent.mkdir(parents=True, exist_ok=True)
        complete.touch()
    hub.remember(address, exact.revision)
    return Source(path, exact.repo.rpartition("/")[2])


def _fetched(exact: HubAddress, new: bool) -> Path:
    from mlaas.kernel.blobs import hub
    from mlaas.runtimes.data.hub import fetch_hub

    hub.require(_FIELD)
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty():  # where the library shows how far it is
        return fetch_hub(_FIELD, Input(str(exact)), _superfluous(exact))
    progress = Progress(str(exact))
    disable_progress_bars()
    try:
        if new:
            progress.begin(0)
        path = fetch_hub(_FIELD, Input(str(exact)), _superfluous(exact))
    finally:
        enable_progress_bars()
    progress.add(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
    progress.end()
    return path


def _superfluous(address: HubAddress) -> list[str]:
    """Patterns of files that a repository has beside the weights which are served: the same in other frameworks' formats."""
    from mlaas.kernel.blobs import hub
    from mlaas.runtimes.data.hub import WEIGHTS_OF_OTHERS

    if hub.offline():
        return list(WEIGHTS_OF_OTHERS)
    names = hub.files(address, _FIELD)
    if any(name.endswith(".safetensors") for name in names):
        return [*WEIGHTS_OF_OTHERS, "*.h5", "*.gguf", "original/*", "pytorch_model*.bin", "*/pytorch_model*.bin"]
    return list(WEIGHTS_OF_OTHERS) if "pytorch_model.bin" in names else []


# -- what was fetched last


def _record(folder: Path, uri: str) -> Path:
    return folder / "inputs" / f"{hashlib.sha256(uri.encode()).hexdigest()}.last"


def _remember(folder: Path, uri: str, identity: str, inside: str) -> None:
    """Note which entry of the cache a uri was last. Neither the uri nor the identity, which may hold secrets, is written."""
    record = _record(folder, uri)
    partial = record.with_name(f"{record.name}.{os.getpid()}")
    partial.write_text(json.dumps({"key": cache.key_of(identity), "inside": inside}))
    partial.replace(record)


def _kept(folder: Path, uri: str, error: Error) -> Path:
    """What was fetched last, saying so. Raises `error` where there is nothing of it."""
    try:
        document = json.loads(_record(folder, uri).read_text())
        content = cache.kept(folder, document["key"])
    except (OSError, ValueError, KeyError):
        content = None
    if content is None:
        raise error
    print(f"{error.message} What was fetched before is served.", file=sys.stderr)
    return content / str(document["inside"])
