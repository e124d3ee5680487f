"""All model formats, and the one that a folder or file has.

Each module of `_MODULES` in this package has one constant, `FORMAT`. A module's import pulls in no framework.
"""

import os
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import AsyncOriginal, Format, Freeform, Opened, Original

_MODULES: tuple[str, ...] = (
    "mlflow",
    "custom",
    "transformers",
    "sklearn",
    "xgboost",
    "lightgbm",
    "onnx",
    "savedmodel",
    "keras",
    "pytorch",
    "transformer",
)
"""In the order of detection: what says most plainly what it is comes first."""

_REFUSED = ("pmml",)
"""Recognised after all others, only to say why they are not served and what to do."""

_NAMES = {"transformers": "huggingface", "savedmodel": "tensorflow"}
"""Formats whose module has another name: the right module is imported first, the others not at all."""

_DISTRIBUTIONS = {
    "sklearn": ("scikit-learn",),
    "xgboost": ("xgboost-cpu", "xgboost"),
    "yaml": ("pyyaml",),
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
}
"""Names on the package index where they are not those of the import; the first one is the one to install."""


def formats() -> list[Format]:
    """One of each that is served, in the order of detection."""
    return [import_module(f"{__package__}.{module}").FORMAT for module in _MODULES]


def named(name: str) -> Format:
    """The format of that name. Raises Invalid naming those there are."""
    for module in sorted((*_MODULES, *_REFUSED), key=lambda module: _NAMES.get(module, module) != name):
        format: Format = import_module(f"{__package__}.{module}").FORMAT
        if format.name == name:
            return format
    raise Invalid(
        f"There is no model format '{name}'.",
        field="format",
        hint=f"One of {', '.join(each.name for each in formats())}.",
    )


def detect(root: Path) -> Format:
    """The format of a folder or file. Raises Invalid saying what lies there when it is none."""
    if not root.exists():
        raise Invalid(f"There is no model at {root}.", field="source")
    found = formats()
    for format in found:
        if format.detects(root):
            return format
    for module in _REFUSED:
        refused: Format = import_module(f"{__package__}.{module}").FORMAT
        if refused.detects(root):
            return refused
    recognised = [f"{each.name} ({each.files})" if each.files else each.name for each in found]
    raise Invalid(
        f"{root.name} is of no known model format: it holds {contents(root)}.",
        field="source",
        hint=f"Known are {', '.join(recognised)}; `format` names one where it cannot be seen.",
    )


def open_model(format: Format, opened: Opened) -> Original | AsyncOriginal | Freeform:
    """Open a model in this process. Raises Invalid with the fix for one that is not trusted as it must be, that needs a package
    which is not installed, or that is broken."""
    if format.executes and not opened.trusted:
        raise Invalid(
            f"Opening a model of the format '{format.name}' runs code that it brings.",
            field="trusted",
            hint="Where you trust its maker: `trusted: true` (`mlaas serve --trust`).",
        )
    require(format, opened.root)
    try:
        return format.open(opened)
    except ModuleNotFoundError as error:
        raise Invalid(
            f"Opening a model of the format '{format.name}' needs the package '{error.name}', which is not installed.",
            field="environment",
            hint=f"`pip install {error.name}`, or name it in the model's `environment.requirements`.",
        ) from error


def require(format: Format, root: Path) -> None:
    """Raises Invalid with the command that installs what a model needs and this Python lacks."""
    missing = [name for name in format.needs(root) if find_spec(name) is None]
    if missing:
        names = " ".join(_DISTRIBUTIONS.get(name, (name,))[0] for name in missing)
        raise Invalid(
            f"A model of the format {format.name} needs {' and '.join(missing)}, not installed here.",
            field="format",
            hint=f"`pip install {names}`, or have the model run in an environment of its own: `environment.requirements: "
            f"[{', '.join(names.split())}]` (`mlaas serve --requirement {names.replace(' ', ' --requirement ')}`).",
        )


def versions(format: Format, root: Path) -> dict[str, str]:
    """The versions of the packages that a model needs, without importing them."""
    found = {}
    for name in format.needs(root):
        for distribution in _DISTRIBUTIONS.get(name, (name,)):
            try:
                found[name] = _version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found


@cache
def _version(distribution: str) -> str:
    """Remembered: finding it takes as long as loading a small model. One that is not installed is looked for again."""
    return version(distribution)


def contents(root: Path, limit: int = 20) -> str:
    """What lies in a folder, for a message."""
    if not root.is_dir():
        return root.name
    with os.scandir(root) as entries:
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"
