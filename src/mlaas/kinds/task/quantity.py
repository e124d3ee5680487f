"""Quantities as users write them: `2Gi` of memory, `500m` of a core, `1h30m` of time."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_UNITS = {
    "": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)\s*([KMGT]i|[kKMGT])?[bB]?")
_CPU = re.compile(r"([0-9]+)m")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(d|h|min|m|s)")
_SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}


def bytes_of(value: Any) -> Any:
    """Bytes; a text is a Kubernetes quantity (kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity)."""
    if not isinstance(value, str):
        return value
    match = _QUANTITY.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"'{value[:40]}' is no amount of memory: write bytes, or for example '512Mi' or '2Gi'")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def cores_of(value: Any) -> Any:
    """Cores; `500m` is half of one."""
    if not isinstance(value, str):
        return value
    if match := _CPU.fullmatch(value.strip()):
        return int(match[1]) / 1000
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"'{value[:40]}' is no number of cores: write for example 2, 0.5 or '500m'") from None


def seconds_of(value: Any) -> Any:
    """Seconds; a text is a sum of parts such as `1h30m`, `45s` or `2d`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    parts = _PART.findall(text)
    if parts and not _PART.sub("", text).strip():
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{value[:40]}' is no time: write seconds, or for example '90s', '2h' or '1h30m'") from None


def _schema(kind: str, text: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": kind, "minimum": 0}, {"type": "string", "pattern": text}]})


Cores = Annotated[float, BeforeValidator(cores_of), _schema("number", r"^[0-9]+(\.[0-9]+)?m?$")]
Memory = Annotated[int, BeforeValidator(bytes_of), _schema("integer", r"^[0-9]+(\.[0-9]+)?([kKMGT]i?)?$")]
Seconds = Annotated[float, BeforeValidator(seconds_of), _schema("number", r"^([0-9]+(\.[0-9]+)?(d|h|min|m|s)?)+$")]
