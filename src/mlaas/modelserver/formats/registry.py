"""All model formats, and the one that a folder or file has.

Each module of `_MODULES` in this package has one constant, `FORMAT`. A module's import pulls in no framework.
"""

from importlib import import_module
from pathlib import Path

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format

_MODULES: tuple[str, ...] = ("custom",)
"""In the order of detection: what says most plainly what it is comes first."""


def formats() -> list[Format]:
    """One of each, in the order of detection."""
    return [import_module(f"{__package__}.{module}").FORMAT for module in _MODULES]


def named(name: str) -> Format:
    """The format of that name. Raises Invalid naming those there are."""
    found = formats()
    for format in found:
        if format.name == name:
            return format
    raise Invalid(
        f"There is no model format '{name}'.", field="format", hint=f"One of {', '.join(each.name for each in found)}."
    )


def detect(root: Path) -> Format:
    """The format of a folder or file. Raises Invalid saying what lies there when it is none."""
    if not root.exists():
        raise Invalid(f"There is no model at {root}.", field="source")
    found = formats()
    for format in found:
        if format.detects(root):
            return format
    content = ", ".join(sorted(entry.name for entry in root.iterdir())[:20]) if root.is_dir() else root.name
    raise Invalid(
        f"{root.name} is of no known model format: it holds {content or 'nothing'}.",
        field="source",
        hint=f"Known are {', '.join(each.name for each in found)}; `format` names one where it cannot be seen.",
    )
