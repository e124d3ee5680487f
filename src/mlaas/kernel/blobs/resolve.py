"""From what a user names to exact content: `resolve(path, storage_type) -> (uri, hash)`, before any work starts.

| named as                         | uri                            | hash                                                  |
|----------------------------------|--------------------------------|-------------------------------------------------------|
| local path                       | file:///real/path              | of the file's bytes, or of the folder as a tree       |
| s3://bucket/key, or a bare key   | s3://bucket/key                | of names, entity tags and sizes                       |
| hub repository org/name[@rev]    | hf://[datasets/]org/name@commit| the commit                                            |
| scheme:rest of a registered one  | what its function says         | what its function says                                |

Blocking: the platform calls it in a thread.
"""

import os
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mlaas.kernel.blobs import hub, s3
from mlaas.kernel.blobs.hashes import Hashes
from mlaas.kernel.blobs.tree import CLAIM, MARK
from mlaas.kernel.blobs.uri import HubAddress, file_path, file_uri, split_s3
from mlaas.kernel.errors import Exists, Invalid

Purpose = Literal["model", "dataset"]
_STORAGE = {"local": "file", "s3": "s3", "hugging_face_hub": "hf"}


class Resolved(NamedTuple):
    """Where exact content is: `uri` as runtimes fetch it, `hash` that changes when the content does."""

    uri: str
    hash: str


Scheme = Callable[[str, str, str], Resolved]
"""(what stands after the colon, field, project) -> Resolved; raises Invalid naming the field."""


class Roots:
    """Which local paths a task may touch: below the roots, never in the data folder but for its `files`. Symbolic links are
    resolved first. Folders of installed packages that hold a model may be read."""

    def __init__(self, roots: Sequence[Path], data: Path) -> None:
        self.roots = [root.resolve() for root in roots]
        self._data = data.resolve()
        self._files = self._data / "files"
        paths = sysconfig.get_paths()
        self._packages = {Path(os.path.realpath(paths[name])) for name in ("purelib", "platlib")}

    def locate(self, path: str, field: str, *, write: bool = False) -> Path:
        """The real path; a relative one is below the first root. Raises Invalid, naming the field and the roots."""
        if not path or "\0" in path:
            raise Invalid("The path is empty." if not path else "The path has a NUL byte.", field=field)
        try:
            raw = os.fsencode(path)
        except UnicodeEncodeError:
            raise Invalid("The path is no valid text.", field=field) from None
        if len(raw) > 4000 or any(len(part) > 255 for part in raw.split(b"/")):
            raise Invalid("The path is longer than a file system takes.", field=field)
        try:
            real = Path(os.path.realpath(self.roots[0] / path))
        except OSError as error:
            raise Invalid(f"The path cannot be read: {error.strerror}.", field=field) from None
        allowed = self.writable(real) if write else self.readable(real)
        if not allowed:
            listed = ", ".join(str(root) for root in self.roots)
            raise Invalid(
                f"'{path[:300]}' lies outside the folders that tasks may {'write' if write else 'read'}.",
                field=field,
                hint=f"The roots are {listed}; MLAAS_LOCAL_ROOTS sets others.",
            )
        return real

    def writable(self, real: Path) -> bool:
        """Whether tasks may write to this (real) path: below a root, not a root itself."""
        return self._within(real) and real not in self.roots

    def readable(self, real: Path) -> bool:
        return self._within(real) or self._in_model_package(real)

    def _within(self, real: Path) -> bool:
        if real.is_relative_to(self._data) and not real.is_relative_to(self._files):
            return False
        if self._data.is_relative_to(real):
            return False  # a folder that contains the data folder would hand it out
        return any(real.is_relative_to(root) for root in self.roots)

    def _in_model_package(self, real: Path) -> bool:
        for packages in self._packages:
            if real.is_relative_to(packages):
                parts = real.relative_to(packages).parts
                if not parts or parts[0].endswith((".dist-info", ".egg-info")):
                    return False
                folders = [packages.joinpath(*parts[: index + 1]) for index in range(len(parts))]
                return any((folder / "config.json").is_file() for folder in folders)
        return False


class Resolver:
    """`roots` as `Settings.roots()` gives them; `hashes` remembers what local files hold."""

    def __init__(
        self, roots: Sequence[Path], data: Path, *, s3_bucket: str | None = None, hashes: Hashes | None = None
    ) -> None:
        self.roots = Roots(roots, data)
        self._bucket = s3_bucket
        self._hashes = hashes or Hashes()
        self._schemes: dict[str, Scheme] = {}

    def register(self, scheme: str, function: Scheme) -> None:
        """Let a kind resolve `scheme:...`, whatever the storage type says."""
        self._schemes[scheme] = function

    def resolve(
        self, path: str, storage_type: str, field: str, *, purpose: Purpose = "model", project: str = "default"
    ) -> Resolved:
        """Exact content of what a task reads. Raises Invalid (naming the field) for what is not there or not allowed, Forbidden
        for an S3 key that is denied, Unavailable when S3 or the hub does not answer."""
        scheme, rest = self._scheme(path, storage_type, field)
        if scheme in self._schemes:
            return self._schemes[scheme](rest, field, project)
        if scheme == "s3":
            return self._s3(path, field)
        if scheme == "hf":
            address = hub.parse(path, purpose, field)
            commit = hub.commit_of(address, field)
            return Resolved(str(HubAddress(address.repo, commit, address.repo_type)), commit)
        return self._local(path, field)

    def resolve_target(self, path: str, storage_type: str, field: str, *, task_uid: str = "") -> str:
        """The uri that a task writes to. Raises Invalid for what is not allowed, Exists for what is there already unless the task
        `task_uid` has committed it."""
        scheme, _ = self._scheme(path, storage_type, field)
        if scheme == "s3":
            uri = self._s3_uri(path, field)
            _free_in_s3(uri, field, task_uid)
            return uri
        if scheme != "file":
            hint = "Use storage_type local or s3."
            raise Invalid(f"Outputs cannot be written to '{path[:300]}'.", field=field, hint=hint)
        real = self.roots.locate(_plain(path), field, write=True)
        _free_on_disk(real, field, task_uid)
        return file_uri(real)

    def _scheme(self, path: str, storage_type: str, field: str) -> tuple[str, str]:
        head, colon, rest = path.partition(":")
        if colon and (head in self._schemes or (head in ("s3", "hf", "file") and rest.startswith("//"))):
            return head, rest
        if storage_type not in _STORAGE:
            raise Invalid(
                f"'{storage_type}' is no storage type.", field=field, hint=f"Use one of {', '.join(_STORAGE)}."
            )
        return _STORAGE[storage_type], path

    def _local(self, path: str, field: str) -> Resolved:
        real = self.roots.locate(_plain(path), field)
        try:
            if not real.exists():
                hint = f"Relative paths are relative to {self.roots.roots[0]}."
                raise Invalid(f"There is nothing at '{path[:300]}'.", field=field, hint=hint)
            if real.is_dir() and not any(item.name not in (MARK, CLAIM) for item in real.iterdir()):
                raise Invalid(f"The folder '{path[:300]}' is empty.", field=field)
            if not real.is_dir() and not real.is_file():
                raise Invalid(f"'{path[:300]}' is neither a file nor a folder.", field=field)
            return Resolved(file_uri(real), self._hashes.of(real, self.roots.readable))
        except Invalid as error:
            error.field = field
            error.errors = error.errors or [{"field": field, "message": error.message}]
            raise
        except OSError as error:
            raise Invalid(f"'{path[:300]}' cannot be read: {error.strerror or error}.", field=field) from None

    def _s3(self, path: str, field: str) -> Resolved:
        uri = self._s3_uri(path, field)
        return Resolved(uri, s3.listing(uri, field).hash)

    def _s3_uri(self, path: str, field: str) -> str:
        if "\0" in path or len(path.encode(errors="replace")) > 1100:
            raise Invalid("The S3 key is longer than 1024 bytes, or has a NUL byte.", field=field)
        if not path.startswith("s3://"):
            if not self._bucket:
                hint = "Write s3://bucket/key, or set MLAAS_S3_BUCKET for the platform."
                raise Invalid(f"'{path}' names no bucket.", field=field, hint=hint)
            path = f"s3://{self._bucket}/{path.strip('/')}"
        try:
            bucket, key = split_s3(path)
        except Invalid as error:
            raise Invalid(error.message, field=field, hint=error.hint) from None
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise Invalid(f"The key '{key[:300]}' has an empty part, '.' or '..'.", field=field)
        return f"s3://{bucket}/{key}"


def _plain(path: str) -> str:
    return str(file_path(path)) if path.startswith("file://") else path


def _free_on_disk(real: Path, field: str, task_uid: str) -> None:
    if not os.path.lexists(real):
        above = next(folder for folder in real.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise Invalid(
                f"{real} cannot be written: {above} is no folder that the platform may write to.", field=field
            )
        return
    if not task_uid or f'"{task_uid}"' not in _text(real / MARK):
        raise Exists(f"The target {real} exists.", field=field, hint="Name another target, or remove what is there.")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _free_in_s3(uri: str, field: str, task_uid: str) -> None:
    bucket, key = split_s3(uri)
    store = s3.store_of(bucket)
    with s3.explained(uri, field):
        try:
            mark = bytes(store.get(f"{key}/{MARK}").bytes()).decode(errors="replace")
        except FileNotFoundError:
            mark = ""
        if task_uid and f'"{task_uid}"' in mark:
            return
        try:
            s3.listing(uri, field)
        except s3.Nothing:
            return
    raise Exists(f"The target {uri} exists.", field=field, hint="Name another target, or remove what is there.")
