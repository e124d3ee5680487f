"""Outputs, all or nothing: written aside, committed last, and found again by a later attempt of the same task.

Local: written to `<target>.partial-<uid>-<attempt>` beside the target, synced, marked with `.mlaas.json` (`{task, attempt,
hash}`), renamed. S3: a claim (`.mlaas-partial.json`, created only if no one else's is there), the objects, the mark last
(created only if there is none). Without a target: `output/` of the working folder, which the platform keeps in its blobs.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlaas.kernel.blobs.tree import CLAIM, MARK, files_of, remove, tree_hash
from mlaas.kernel.blobs.uri import file_path, scheme, split_s3
from mlaas.kernel.errors import Exists, Full, Invalid
from mlaas.runtimes.taskfile import OUTPUT, TaskFile

_HINT = "Name another target, or remove what is there."


def commit(task: TaskFile, field: str, write: Callable[[Path], Any]) -> dict[str, str]:
    """Write the output of `field`: `write` fills an empty folder; then it appears at its target, whole. Returns
    `{"uri", "hash"}`. What this task has committed already is not written again.

    Raises Exists for a target that something else has taken, Full when the disk is.
    """
    done = check_target(task, field)
    if done is not None:
        return done
    uri = task.outputs.get(field)
    if uri is not None and scheme(uri) == "s3":
        return _commit_s3(task, field, uri, write)
    target = Path(OUTPUT) if uri is None else file_path(uri)
    digest = _commit_folder(task, field, target, write)
    return {"uri": uri or f"blobs:{digest}", "hash": digest}


def committed(task: TaskFile, field: str) -> dict[str, str] | None:
    """What this very task has committed for `field`, in this or an earlier attempt; None if nothing."""
    uri = task.outputs.get(field)
    if uri is not None and scheme(uri) == "s3":
        from mlaas.kernel.blobs import s3

        bucket, key = split_s3(uri)
        mark = _read_object(s3.store_of(bucket), f"{key}/{MARK}", uri, field)
    else:
        mark = _read_mark((Path(OUTPUT) if uri is None else file_path(uri)) / MARK)
    if mark is None or mark.get("task") != task.uid:
        return None
    return {"uri": uri or f"blobs:{mark['hash']}", "hash": str(mark["hash"])}


def check_target(task: TaskFile, field: str) -> dict[str, str] | None:
    """Call before the work: what is committed already by this task, or None when the target is free.
    Raises Exists when anything else is at the target."""
    done = committed(task, field)
    if done is not None:
        return done
    uri = task.outputs.get(field)
    if uri is None:
        return None
    if scheme(uri) == "s3":
        _check_s3(task, field, uri)
    elif scheme(uri) == "file":
        target = file_path(uri)
        if os.path.lexists(target):
            raise Exists(f"The target {target} exists.", field=field, hint=_HINT)
    else:
        raise Invalid(
            f"Outputs cannot be written to '{uri}'.", field=field, hint="Use a local path or s3://bucket/key."
        )
    return None


def _commit_folder(task: TaskFile, field: str, target: Path, write: Callable[[Path], Any]) -> str:
    _remove_leftovers(task, target)
    partial = target.with_name(f"{target.name}.partial-{task.uid}-{task.attempt}")
    with _whole(target, field, partial):
        partial.mkdir(parents=True)
        write(partial)
        digest = tree_hash(partial)
        (partial / MARK).write_text(json.dumps(_mark(task, digest)))
        _sync(partial)
        if task.outputs.get(field) is None:
            remove(target)
        elif os.path.lexists(target):
            raise Exists(f"The target {target} was made by something else meanwhile.", field=field, hint=_HINT)
        try:
            partial.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise Exists(f"The target {target} exists.", field=field, hint=_HINT) from None
            raise
        _sync_entry(target.parent)
    return digest


def _remove_leftovers(task: TaskFile, target: Path) -> None:
    prefix = f"{target.name}.partial-{task.uid}-"
    if target.parent.is_dir():
        for item in list(target.parent.iterdir()):
            if item.name.startswith(prefix):
                remove(item)


@contextmanager
def _whole(target: Path | str, field: str, partial: Path) -> Iterator[None]:
    """Nothing of a failed write stays; a full or forbidden disk is said as such."""
    try:
        yield
    except BaseException as error:
        remove(partial)
        text = str(error)
        if (
            isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        ) or "No space left on device" in text:
            hint = "Free some space, or name a target on another disk."
            raise Full(f"The disk is full: {target} could not be written.", field=field, hint=hint) from None
        if isinstance(error, PermissionError):
            raise Invalid(f"{target} cannot be written: permission denied.", field=field) from None
        raise


def _mark(task: TaskFile, digest: str) -> dict[str, Any]:
    return {"task": task.uid, "attempt": task.attempt, "hash": digest}


def _read_mark(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _sync(folder: Path) -> None:
    for here, _folders, names in os.walk(folder):
        for name in names:
            with open(os.path.join(here, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_entry(Path(here))


def _sync_entry(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_object(store: Any, key: str, uri: str, field: str) -> dict[str, Any] | None:
    from mlaas.kernel.blobs import s3

    with s3.explained(uri, field):
        try:
            data = bytes(store.get(key).bytes())
        except FileNotFoundError:
            return None
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _check_s3(task: TaskFile, field: str, uri: str) -> None:
    from mlaas.kernel.blobs import s3

    bucket, key = split_s3(uri)
    store = s3.store_of(bucket)
    with s3.explained(uri, field):
        try:
            store.head(key)
        except FileNotFoundError:
            pass
        else:
            raise Exists(f"The target {uri} exists.", field=field, hint=_HINT)
        claim = _read_object(store, f"{key}/{CLAIM}", uri, field)
        if claim is not None and claim.get("task") == task.uid:
            return
        if claim is not None:
            raise Exists(f"Another task ({claim.get('task')}) is writing to {uri}.", field=field, hint=_HINT)
        if any(batch for batch in store.list(key + "/", chunk_size=1)):
            raise Exists(f"The target {uri} exists.", field=field, hint=_HINT)


def _commit_s3(task: TaskFile, field: str, uri: str, write: Callable[[Path], Any]) -> dict[str, str]:
    from mlaas.kernel.blobs import s3

    bucket, key = split_s3(uri)
    store = s3.store_of(bucket)
    folder = Path(f"{OUTPUT}.{field}.partial-{task.uid}-{task.attempt}")
    _remove_leftovers(task, Path(f"{OUTPUT}.{field}"))
    with _whole(uri, field, folder), s3.explained(uri, field):
        _claim(store, key, task, uri, field)
        try:
            folder.mkdir(parents=True)
            write(folder)
            digest = tree_hash(folder)
            names = dict(files_of(folder))
            stale = [item["path"] for batch in store.list(key + "/") for item in batch]
            stale = [path for path in stale if path.removeprefix(key + "/") not in {*names, CLAIM, MARK}]
            if stale:
                store.delete(stale)
            for name, path in names.items():
                s3.upload(store, path, f"{key}/{name}")
        except Exception:
            _withdraw(store, key)
            raise
        _put_mark(store, key, task, digest, uri, field)
        store.delete(f"{key}/{CLAIM}")
    remove(folder)
    return {"uri": uri, "hash": digest}


def _claim(store: Any, key: str, task: TaskFile, uri: str, field: str) -> None:
    """From here on, this task alone writes below the key."""
    data = json.dumps({"task": task.uid, "attempt": task.attempt}).encode()
    try:
        store.put(f"{key}/{CLAIM}", data, mode="create", use_multipart=False)
    except Exception as error:
        if not isinstance(error, FileExistsError) and "AlreadyExists" not in type(error).__name__:
            raise
        claim = _read_object(store, f"{key}/{CLAIM}", uri, field) or {}
        if claim.get("task") != task.uid:
            raise Exists(f"Another task ({claim.get('task')}) is writing to {uri}.", field=field, hint=_HINT) from None


def _put_mark(store: Any, key: str, task: TaskFile, digest: str, uri: str, field: str) -> None:
    try:
        store.put(f"{key}/{MARK}", json.dumps(_mark(task, digest)).encode(), mode="create", use_multipart=False)
    except Exception as error:
        if not isinstance(error, FileExistsError) and "AlreadyExists" not in type(error).__name__:
            raise
        mark = _read_object(store, f"{key}/{MARK}", uri, field) or {}
        if mark.get("task") != task.uid:  # ours is there already when an answer was lost and the request repeated
            raise Exists(f"The target {uri} was made by something else meanwhile.", field=field, hint=_HINT) from None


def _withdraw(store: Any, key: str) -> None:
    """After a failed write: what was uploaded goes, the claim last."""
    try:
        paths = [item["path"] for batch in store.list(key + "/") for item in batch]
        claim = f"{key}/{CLAIM}"
        store.delete([path for path in paths if path != claim])
        store.delete(claim)
    except Exception as error:
        print(f"warning: what was uploaded below {key} could not be removed: {error}")
