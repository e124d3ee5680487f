"""scikit-learn models: a skops file, or a pickle (by pickle or joblib) where the model is trusted by name.

A skops file of scikit-learn's own types is opened for anybody. Other types in it are listed; `trusted: true` admits them all,
`options: {"trusted_types": [...]}` some. skops is no sandbox: either way the file is opened in a process of its own that has no
credentials.
"""

import pickle
import re
import warnings
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver.formats.base import Format, Opened, Original
from mlaas.modelserver.formats.folder import declared, has_file, head, model_file
from mlaas.modelserver.formats.sklearn_trust import check_trees, harmless

_SKOPS = ("model.skops",)
_PICKLES = ("model.joblib", "model.pkl", "model.pickle")
_PICKLE_SUFFIXES = (".joblib", ".pkl", ".pickle")
_ZIP = b"PK\x03\x04"


class ScikitLearn(Format):
    """`options`: `trusted_types` for skops."""

    name = "sklearn"
    packages = ("sklearn", "skops")
    files = "model.skops, or a trusted model.joblib or model.pkl"

    def detects(self, root: Path) -> bool:
        return has_file(root, _SKOPS, (".skops",)) or has_file(root, _PICKLES, _PICKLE_SUFFIXES)

    def open(self, opened: Opened) -> Original:
        from mlaas.modelserver.formats.sklearn_export import ScikitLearnModel

        file = model_file(opened.root, _SKOPS, (".skops",))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if file is not None:
                model = open_skops(file, opened)
            else:
                file = model_file(opened.root, _PICKLES, _PICKLE_SUFFIXES)
                if file is None:
                    raise Invalid(f"{opened.root.name} holds no {' or '.join((*_SKOPS, *_PICKLES))}.", field="source")
                model = _pickle(file, opened)
        if not hasattr(model, "get_params"):
            raise Invalid(
                f"{file.name} holds a {type(model).__name__}, which is no scikit-learn estimator.",
                field="source",
                hint="Save the fitted estimator or pipeline itself, not a list or dictionary around it.",
            )
        return ScikitLearnModel(model, opened.root, declared(opened.root), _version_warnings(caught))


def open_skops(file: Path, opened: Opened) -> Any:
    """What a skops file holds. Raises Invalid, naming them, for types that are neither harmless nor trusted."""
    if head(file, 4) != _ZIP:
        raise Invalid(f"{file.name} is no skops file (it is no zip archive).", field="source")
    io = import_module("skops.io")
    try:
        untrusted = io.get_untrusted_types(file=file)
        allowed = untrusted if opened.trusted else list((opened.options or {}).get("trusted_types") or ())
        refused = [name for name in untrusted if name not in allowed and not harmless(name)]
        if refused:
            raise Invalid(
                f"{file.name} holds types that are not known to be harmless: {', '.join(refused)}.",
                field="trusted",
                hint="Where you trust its maker: `trusted: true` (`mlaas serve --trust`), "
                "or name them in options.trusted_types.",
            )
        model = io.load(file, trusted=untrusted)
        check_trees(model)
        return model
    except Error:
        raise
    except Exception as error:
        raise _unreadable(file, error, _skops_version(file)) from error


def _pickle(file: Path, opened: Opened) -> Any:
    if not opened.trusted:
        raise Invalid(
            f"{file.name} is a pickle: opening it runs whatever code its maker put into it.",
            field="trusted",
            hint="Save the model as skops instead: `skops.io.dump(model, 'model.skops')`. Where you trust its maker: "
            "`trusted: true` (`mlaas serve --trust`).",
        )
    try:
        if file.suffix == ".joblib":
            return import_module("joblib").load(file)
        with file.open("rb") as stream:
            first = stream.read(1)
            stream.seek(0)
            if first == b"\x80":
                return pickle.load(stream)  # noqa: S301 - only when trusted, in a process without credentials
        return import_module("joblib").load(file)
    except Exception as error:
        raise _unreadable(file, error, "") from error


def _unreadable(file: Path, error: Exception, saved: str) -> Invalid:
    """What is wrong with a file, with the fix that its error points to."""
    here = version("scikit-learn")
    if isinstance(error, ModuleNotFoundError):
        name = str(error.name).partition(".")[0]
        return Invalid(
            f"{file.name} needs the Python module '{error.name}', which is not installed here.",
            field="environment",
            hint=f"Name its package in `environment.requirements`, or `pip install {name}`.",
        )
    text = f"{type(error).__name__}: {error}".split("\n")[0][:500]
    other = saved and saved != here
    return Invalid(
        f"{file.name} cannot be read by scikit-learn {here}: {text}"
        + (f" It was saved by scikit-learn {saved}." if other else ""),
        field="source",
        hint=f"Name its version: `environment.requirements: [scikit-learn=={saved if other else '<version>'}]`, or save it "
        f"again with scikit-learn {here}.",
    )


def _skops_version(file: Path) -> str:
    """The scikit-learn version that an estimator in a skops file was saved by, "" where it is not said."""
    try:
        with zipfile.ZipFile(file) as archive:
            schema = archive.read("schema.json")[: 64 << 20]
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""
    found = re.search(rb'"_sklearn_version":\s*\{[^{}]*"content":\s*"\\?"?([0-9][0-9A-Za-z.+]*)', schema)
    return found[1].decode() if found else ""


def _version_warnings(caught: list[warnings.WarningMessage]) -> list[str]:
    """What scikit-learn says about an estimator of another version, in one sentence with the fix."""
    for warning in caught:
        saved = getattr(warning.message, "original_sklearn_version", None)
        if saved:
            here = version("scikit-learn")
            return [
                f"Saved by scikit-learn {saved}, opened by {here}: its answers may differ. Name its version in "
                f"`environment.requirements: [scikit-learn=={saved}]`, or save it again."
            ]
    return []


FORMAT = ScikitLearn()
