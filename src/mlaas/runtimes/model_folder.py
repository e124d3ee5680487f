"""What can be known of the folder of a model or a tokenizer without any framework, in the Hugging Face layout.

Pure: the standard library and our errors. The platform checks with it before a task is accepted, the recipes before they load;
so both refuse the same folders in the same words.
"""

import json
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TENSORFLOW = ("tf_model.h5", "tf_model.h5.index.json", "saved_model.pb")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
AUTO_CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "no-objective": "AutoModel",
}
"""Objective -> the class of transformers that loads a model for it."""

_HEADS = {
    "text-classification": "ForSequenceClassification",
    "next-sentence-prediction": "ForNextSentencePrediction",
    "token-classification": "ForTokenClassification",
}
_LARGEST_JSON = 64 << 20
_LARGEST_HEADER = 100_000_000  # of a safetensors file, as its readers have it
_OWN = "Leave the tokenizer out to take the model's own."


def check_model(folder: Path, objective: str, *, shown: str = "", field: str = "model.path") -> dict[str, Any]:
    """The configuration of a model's folder. `shown` is what its user calls it.

    Raises Invalid for what is no folder, has no configuration or one that is broken, no weights, weights of TensorFlow only
    (with the command that converts them), and weights whose file is damaged or cut short.
    """
    shown = shown or str(folder)
    if not folder.exists():
        raise Invalid(f"There is no model at '{shown}'.", field=field, hint="Check the path of the model's folder.")
    if not folder.is_dir():
        hint = "Name the folder that holds config.json, weights and tokenizer."
        raise Invalid(f"'{shown}' is a file; a model is a folder.", field=field, hint=hint)
    if not (folder / CONFIG).is_file():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:20]) or "nothing"
        raise Invalid(
            f"'{shown}' is no model: it has no config.json. It holds {there}.",
            field=field,
            hint="Name the folder that holds config.json, weights (model.safetensors) and a tokenizer.",
        )
    config = _configuration(folder, shown, field)
    weights = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise _no_weights(folder, objective, shown, field)
    if weights == "model.safetensors":
        _check_safetensors(folder / weights, shown, field)
    elif weights.endswith(".index.json"):
        _check_index(folder, weights, shown, field)
    return config


def conversion(folder: Path, objective: str) -> str:
    """The command that writes safetensors beside TensorFlow weights; transformers 5 no longer reads those, 4 does."""
    auto, where = AUTO_CLASSES.get(objective, "AutoModel"), json.dumps(str(folder))
    code = f"from transformers import {auto} as M; M.from_pretrained({where}, from_tf=True).save_pretrained({where})"
    return f"uv run --no-project --with 'transformers<5' --with torch --with tf-keras python -c {shlex.quote(code)}"


def head_labels(config: dict[str, Any], objective: str) -> list[str] | None:
    """The labels of a head for this objective that the folder has; None where it has none, or only numbered ones."""
    suffix = _HEADS.get(objective)
    if not suffix or not any(str(name).endswith(suffix) for name in config.get("architectures") or []):
        return None
    names = config.get("id2label")
    try:
        found = [str(names[key]) for key in sorted(names, key=int)] if isinstance(names, dict) else []
    except ValueError:
        return None
    return found if found and found != [f"LABEL_{i}" for i in range(len(found))] else None


def check_tokenizer(folder: Path, *, shown: str = "", field: str = "tokenizer.path") -> int | None:
    """The highest token id of a tokenizer's folder, None where its files do not say it without their library.

    Raises Invalid for a folder without a tokenizer and for a `tokenizer.json` that is broken.
    """
    shown = shown or str(folder)
    there = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not there:
        raise Invalid(
            f"'{shown}' holds no tokenizer: none of {', '.join(TOKENIZERS)}.",
            field=field,
            hint='Name one, for example "tokenizer": {"path": "path/to/tokenizer", "storage_type": "local"}.',
        )
    name = next((name for name in ("tokenizer.json", "vocab.txt", "vocab.json") if name in there), None)
    if name is None:
        return None
    path = folder / name
    status = path.stat()
    if status.st_size > _LARGEST_JSON:
        return None
    try:
        return _highest(str(path), name, status.st_size, status.st_mtime_ns)
    except OSError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Invalid(
            f"The tokenizer in '{shown}' cannot be read: {name} is damaged.",
            field=field,
            hint="Copy the whole folder again.",
        ) from error


def vocabulary_size(config: dict[str, Any]) -> int | None:
    """How many tokens a model embeds, by its configuration; None where that does not say."""
    inner = config.get("text_config")
    size = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def check_fit(highest: int | None, size: int | None, *, field: str = "tokenizer.path") -> None:
    """Raises Invalid when a tokenizer knows token ids that the model has no embedding for. None: not known."""
    if highest is not None and size is not None and highest >= size:
        raise Invalid(
            f"The tokenizer does not fit the model: it has token ids up to {highest}, the model embeds {size} tokens.",
            field=field,
            hint=_OWN if field.startswith("tokenizer") else "Copy the whole folder again: its files are of two models.",
        )


def _configuration(folder: Path, shown: str, field: str) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError("too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        why = f"it is no JSON ({error})" if isinstance(error, json.JSONDecodeError) else "it is no JSON"
        raise Invalid(
            f"The configuration of '{shown}' is broken: {why}.", field=field, hint="Copy config.json again."
        ) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or not kind:
        raise Invalid(
            f"'{shown}' is no model: its config.json names no model_type.",
            field=field,
            hint='A model\'s config.json has, for example, "model_type": "bert".',
        )
    return dict(config)


def _no_weights(folder: Path, objective: str, shown: str, field: str) -> Invalid:
    if any((folder / name).exists() for name in TENSORFLOW):
        return Invalid(
            f"'{shown}' holds only TensorFlow weights, which are no longer read.",
            field=field,
            hint=f"Convert them once: {conversion(folder, objective)}",
        )
    return Invalid(
        f"'{shown}' has a configuration but no weights.",
        field=field,
        hint=f"Beside config.json belongs one of {', '.join(WEIGHTS)}: copy the whole folder.",
    )


def _check_safetensors(path: Path, shown: str, field: str) -> None:
    """The file is as long as its header says (format: github.com/huggingface/safetensors, README, "Format")."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if start == b"version ":
            raise Invalid(
                f"The weights of '{shown}' are a pointer of Git LFS, not the file itself.",
                field=field,
                hint="Fetch them: `git lfs pull` in that folder.",
            )
        if len(start) < 8 or length > min(size - 8, _LARGEST_HEADER):
            raise _damaged(path, shown, field, "its header is cut short")
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        ends = [int(value["data_offsets"][1]) for name, value in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise _damaged(path, shown, field, "it has no header") from None
    missing = 8 + length + max(ends, default=0) - size
    if missing > 0:
        raise _damaged(path, shown, field, f"{missing:,} of its bytes are missing")


def _damaged(path: Path, shown: str, field: str, why: str) -> Invalid:
    return Invalid(
        f"The weights of '{shown}' cannot be loaded: {path.name} is damaged, {why}.",
        field=field,
        hint="Copy the whole folder again.",
    )


def _check_index(folder: Path, name: str, shown: str, field: str) -> None:
    """Every file that the index of sharded weights names is there."""
    path = folder / name
    try:
        if path.stat().st_size > _LARGEST_JSON:
            return
        files = sorted({str(file) for file in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise _damaged(path, shown, field, "it is no index of weights") from None
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise Invalid(
            f"'{shown}' lacks {len(missing)} of the {len(files)} files of its weights, such as {missing[0]}.",
            field=field,
            hint="Copy the whole folder again.",
        )


@lru_cache(maxsize=64)
def _highest(path: str, name: str, size: int, changed: int) -> int | None:
    """Of a file as it is at this size and time: a tokenizer of a language model takes a tenth of a second to read."""
    text = Path(path).read_text(encoding="utf-8")
    if name == "vocab.txt":
        return max(text.count("\n") - text.endswith("\n"), 0) if text else None
    document = json.loads(text)
    if name == "vocab.json":
        return max(map(int, document.values()), default=None)
    vocabulary = document["model"].get("vocab", {})
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    added = [int(token["id"]) for token in document.get("added_tokens") or []]
    return max([*added, max(map(int, ids), default=-1)], default=None)
