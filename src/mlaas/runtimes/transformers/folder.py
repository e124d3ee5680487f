"""Model folders in the Hugging Face layout: loaded, with the right head, and written whole."""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.runtimes import model_folder
from mlaas.runtimes.transformers.objectives.base import Objective
from mlaas.runtimes.transformers.objectives.text_classification import label_names


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what transformers logs and warns of while loading out of the task's log: we say it ourselves."""
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.captureWarnings(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def digest(folder: Path, names: Sequence[str]) -> str:
    """A hash over the files of these names that are there."""
    total = hashlib.sha256()
    for name in names:
        path = folder / name
        if path.is_file():
            with path.open("rb") as stream:
                total.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def tokenizer_digest(folder: Path) -> str:
    return digest(
        folder, (*model_folder.TOKENIZERS, "special_tokens_map.json", "added_tokens.json", "merges.txt", "config.json")
    )


def tokenizer(folder: Path, field: str = "tokenizer") -> Any:
    """The tokenizer of a folder. Raises Invalid when there is none that can be loaded."""
    from transformers import AutoTokenizer

    model_folder.check_tokenizer(folder, field=f"{field}.path")
    try:
        with quiet():
            found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise Invalid(f"The tokenizer in {folder} cannot be loaded: {_short(error)}", field=f"{field}.path") from error
    found.truncation_side = "right"
    found.padding_side = "right"
    return found


def load(folder: Path, objective: Objective, labels: list[str] | None = None) -> tuple[Any, list[str], list[str]]:
    """A model for an objective in 32 bits on the CPU, warnings (a head that starts afresh), and the names of the weights
    that do. With `labels` it gets a head of these classes, named in its configuration.

    Parameters that the folder lacks are drawn from torch's generator: seed it before. Raises Invalid.
    """
    import torch
    import transformers

    model_folder.check_model(folder, objective.name)
    said: list[str] = []
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
            if objective.name == "next-sentence-prediction" and config.id2label == {0: "LABEL_0", 1: "LABEL_1"}:
                labels = labels or ["is_next", "not_next"]
            if labels is not None:
                config.num_labels = len(labels)
                config.id2label = dict(enumerate(labels))
                config.label2id = {label: i for i, label in enumerate(labels)}
            auto = getattr(transformers, objective.auto)
            if objective.name == "next-sentence-prediction" and type(config) not in auto._model_mapping:
                auto = transformers.AutoModelForSequenceClassification
                said.append(
                    f"{config.model_type} has no next-sentence head: a classifier of two labels takes its place."
                )
            model, info = auto.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                weights_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Invalid:
        raise
    except ValueError as error:
        raise Invalid(
            f"The model cannot be loaded for {objective.name}: {_short(error)}",
            field="model.objective",
            hint="Its architecture may not know this objective.",
        ) from error
    except Exception as error:
        raise Invalid(f"The model in {folder} cannot be loaded: {_short(error)}", field="model.path") from error
    fresh = sorted({*info["missing_keys"], *(str(item[0]) for item in info["mismatched_keys"])})
    body = [name for name in fresh if name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name]
    total = sum(1 for name, _ in model.named_parameters() if name.startswith(f"{model.base_model_prefix}."))
    if total and len(body) > total // 2:
        raise Invalid(
            f"The weights in {folder} are not those of its configuration: {len(body)} of {total} are missing.",
            field="model.path",
            hint="Check that config.json and the weights belong together.",
        )
    if fresh:
        said.append(
            f"The model comes without a head for {objective.name}: one is trained from nothing ({', '.join(fresh[:6])})."
        )
    return model, said, fresh


def save(folder: Path, model: Any, tokens: Any, record: dict[str, Any], source: Path | None = None) -> None:
    """A complete folder: configuration with the label names, safetensors, tokenizer, `training.json`; the pooling of a
    sentence-transformers folder `source` goes along."""
    with quiet():
        model.save_pretrained(str(folder))
        tokens.save_pretrained(str(folder))
    if source is not None and (source / "modules.json").is_file():
        import shutil

        modules = json.loads((source / "modules.json").read_text())
        paths = [str(module.get("path") or "") for module in modules]
        for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        for path in paths:
            if path and os.sep not in path and path not in (".", "..") and (source / path / "config.json").is_file():
                (folder / path).mkdir(exist_ok=True)
                shutil.copyfile(source / path / "config.json", folder / path / "config.json")
    (folder / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:240] + "…" if len(text) > 240 else text) or type(error).__name__


__all__ = ["digest", "label_names", "load", "quiet", "save", "tokenizer", "tokenizer_digest"]
