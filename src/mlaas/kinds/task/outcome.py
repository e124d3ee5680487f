"""What a task leaves: its output in blobs, small results in its status, large ones in blobs with a reference in the status."""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.tree import put_tree
from mlaas.kernel.resource import Json

LARGE = 1 << 20
"""Bytes of JSON above which results are kept beside the status: a list of tasks must not carry 100,000 embeddings."""

RESULT_KEYS = frozenset(
    {"history", "evaluation", "training", "dataset", "predictions", "results", "index", "output", "warnings"}
)


async def keep(blobs: Blobs, result: Json, output: str | None) -> Json:
    """The fields of the task's status for what it left. Repeating it keeps the same: blobs have the name of their content."""
    return await asyncio.to_thread(_keep, blobs, result, output)


def _keep(blobs: Blobs, result: Json, output: str | None) -> Json:
    status: Json = {key: value for key, value in result.items() if key in RESULT_KEYS}
    folder = Path(output) if output else None
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        digest = put_tree(blobs, folder)
        status["output"] = {"uri": f"blobs:{digest}", "hash": digest}
    data = orjson.dumps(status, option=orjson.OPT_NON_STR_KEYS)
    if len(data) <= LARGE:
        return status
    large = {key: value for key, value in status.items() if key != "output" and _size(value) > LARGE // 16}
    digest = blobs.put(orjson.dumps(large, option=orjson.OPT_NON_STR_KEYS))
    small = {key: value for key, value in status.items() if key not in large}
    return {**small, "large": {"hash": digest, "keys": sorted(large)}}


def _size(value: Any) -> int:
    return len(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


async def large_results(blobs: Blobs, status: Json) -> Json:
    """The results that are kept beside `status`; empty when there are none."""
    reference = status.get("large")
    if not reference:
        return {}
    data = await asyncio.to_thread(blobs.get, reference["hash"])
    document: Json = orjson.loads(data)
    return document
