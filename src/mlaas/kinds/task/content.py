"""What a task reads, looked into where it lies on this disk: a folder that is no model, or a
data set that cannot be trained on, is refused before work starts.

The checks are the recipes' own (`mlaas.runtimes.model_folder`, `mlaas.runtimes.data.preflight`). What is elsewhere, or behind a
symbolic link that leads out of the allowed folders, is left to the recipe.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.kinds.task.schema import AnySpec
from mlaas.runtimes import model_folder
from mlaas.runtimes.data import preflight
from mlaas.runtimes.data.preflight import Purpose
from mlaas.runtimes.embed import layout

Allowed = Callable[[Path], bool]
"""Whether tasks may read this real path."""


def check(spec: AnySpec, places: dict[str, Path], allowed: Allowed) -> None:
    """`places`: field -> path of what is on this disk. Blocking. Raises Invalid, naming the field."""
    if spec.recipe == "script" or spec.recipe == "fit":  # these read no model
        return
    config = None
    model, tokenizer = places.get("model"), places.get("tokenizer")
    if model is not None and _inside(model, allowed):
        with _readable(spec.model.path, "model.path"):
            config = model_folder.check_model(model, spec.model.objective, shown=spec.model.path)
    if spec.tokenizer is None:
        folder, shown, field = model, spec.model.path, "model.path"
    else:
        folder, shown, field = tokenizer, spec.tokenizer.path, "tokenizer.path"
    if folder is not None and _inside(folder, allowed):
        with _readable(shown, field):
            highest = model_folder.check_tokenizer(folder, shown=shown, field=field)
        if config is not None:
            model_folder.check_fit(highest, model_folder.vocabulary_size(config), field=field)
    dataset = places.get("dataset")
    if dataset is not None and spec.recipe != "predict":
        with _readable(spec.dataset.path, "dataset.path"):
            _check_dataset(spec, dataset, config, allowed)


def _check_dataset(spec: AnySpec, place: Path, config: dict[str, Any] | None, allowed: Allowed) -> None:
    if spec.recipe == "search":
        if _inside(place, allowed):
            layout.check(place, spec.dataset.path)
    elif spec.recipe == "index":
        preflight.check(place, spec.dataset, Purpose(preflight.INDEX), allowed)
    elif spec.recipe == "finetune":
        head = model_folder.head_labels(config, spec.model.objective) if config is not None else None
        weights = spec.model_train.class_weights
        purpose = Purpose(
            spec.model.objective,
            head=None if head is None else tuple(head),
            weighted=tuple(sorted(weights)) if isinstance(weights, dict) else (),
        )
        preflight.check(place, spec.dataset, purpose, allowed)


@contextmanager
def _readable(shown: str, field: str) -> Iterator[None]:
    """What the file system refuses, in words."""
    try:
        yield
    except OSError as error:
        name = f" ({Path(error.filename).name})" if error.filename else ""
        raise Invalid(
            f"'{shown[:300]}' cannot be read{name}: {error.strerror or error}.",
            field=field,
            hint="Let the user that the platform runs as read it.",
        ) from None


def _inside(folder: Path, allowed: Allowed) -> bool:
    """Whether every file that is looked at belongs to what tasks may read."""
    names = (model_folder.CONFIG, *model_folder.WEIGHTS, *model_folder.TOKENIZERS, layout.MANIFEST)
    return all(allowed(path.resolve()) for name in names if (path := folder / name).is_symlink())
