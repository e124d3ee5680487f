"""Python files of the user's: the class in them, and how its methods are called. Used by custom predictors and transformers."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid


def module_of(file: Path) -> ModuleType:
    """The file as a module; its folder comes first on the path, so that it may have other files beside it."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise Invalid(f"{file.name} is no Python file.", field="source")
    sys.path.insert(0, str(file.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise Invalid(
            f"{file.name} needs the package '{error.name}', which is not installed.",
            field="environment",
            hint=f"Name it in `environment.requirements`, or `pip install {error.name}`.",
        ) from error
    except (Exception, SystemExit) as error:
        raise broken("its import", file, error) from error
    return module


def class_of(module: ModuleType, file: Path, name: Any, methods: Sequence[str], usual: str) -> Callable[[], Any]:
    """The class with any of the methods: the named one, the only one, or the one of the usual name. Raises Invalid."""
    wanted = " or ".join(f"`{method}`" for method in methods)
    found = {
        each.__name__: each
        for each in vars(module).values()
        if isinstance(each, type)
        and each.__module__ == module.__name__
        and any(callable(getattr(each, method, None)) for method in methods)
    }
    if name:
        if name not in found:
            raise Invalid(
                f"{file.name} has no class '{name}' with a method {wanted}; it has {', '.join(found) or 'none'}.",
                field="options.class",
            )
        return found[name]
    if not found:
        raise Invalid(f"{file.name} has no class with a method {wanted}.", field="source")
    if len(found) > 1 and usual not in found:
        raise Invalid(
            f"{file.name} has several classes with a method {wanted}: {', '.join(found)}.",
            field="options.class",
            hint=f'Name one in `options: {{"class": ...}}`, or call it {usual}.',
        )
    return found[usual] if usual in found else next(iter(found.values()))


def call_of(method: Callable[..., Any]) -> Callable[[dict[str, NDArray[Any]], Mapping[str, Any]], Any]:
    """A method that takes arrays by name, with the parameters where it takes them."""
    places = [
        each
        for each in inspect.signature(method).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)
    ]
    if len(places) > 1 or any(each.kind is each.VAR_POSITIONAL for each in places):
        return method
    return lambda inputs, parameters: method(inputs)


def broken(where: str, file: Path, error: BaseException) -> Invalid:
    return Invalid(
        f"{file.name} failed in {where}: {type(error).__name__}: {error}",
        field="source",
        hint="The worker's log has the traceback.",
    )
