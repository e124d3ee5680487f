"""Zip archives with the same bytes for the same content: what skops and Keras write holds the hour and addresses of memory."""

import io
import json
import zipfile
from typing import Any

import numpy as np

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can say


def canonical_skops(data: bytes) -> bytes:
    """A skops archive whose objects and arrays are numbered in the order of its schema, instead of by their addresses."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read("schema.json"))
        ids: dict[int, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, ids, files)
        content = {files[name]: _tidy(name, archive.read(name)) for name in archive.namelist() if name in files}
    content["schema.json"] = json.dumps(schema, indent=1).encode()
    return packed(content)


def _tidy(name: str, data: bytes) -> bytes:
    """An array of records (the nodes of a search tree) with zeros between its fields, where memory has whatever was there."""
    if not name.endswith(".npy"):
        return data
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for field in array.dtype.names:
        clean[field] = array[field]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _renumber(node: Any, ids: dict[int, int], files: dict[str, str]) -> None:
    if isinstance(node, list):
        for item in node:
            _renumber(item, ids, files)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("__id__"), int):
        node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
    if isinstance(node.get("file"), str):
        name = node["file"]
        node["file"] = files.setdefault(name, f"{len(files) + 1}.{name.rpartition('.')[2]}")
    for key, value in node.items():
        if key not in ("__id__", "file"):
            _renumber(value, ids, files)


def canonical_keras(data: bytes) -> bytes:
    """A Keras archive without the time at which it was written."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(content["metadata.json"])
    metadata.pop("date_saved", None)
    content["metadata.json"] = json.dumps(metadata).encode()
    return packed(content)


def packed(content: dict[str, bytes]) -> bytes:
    """The archive of these files, in the order of their names, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content[name], compresslevel=6)
    return buffer.getvalue()
