"""Merge patches of plain documents (RFC 7396)."""

from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` applied (section 2): null removes a key. Neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def difference(source: Any, target: Any) -> Any:
    """The smallest patch that makes `target` of `source`; `{}` where they are equal objects. What is null in `target` counts as
    left out."""
    if not isinstance(source, dict) or not isinstance(target, dict):
        return target
    patch: dict[str, Any] = {key: None for key in source if target.get(key) is None and source[key] is not None}
    for key, value in target.items():
        if value is None or (key in source and source[key] == value):
            continue
        patch[key] = difference(source.get(key), value)
    return patch
