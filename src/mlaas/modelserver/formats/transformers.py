"""Folders of Hugging Face transformers: `config.json`, safetensors, a tokenizer. Text in; labels, entities, answers, vectors or
text out, as the model's objective says.

The objective is `options.objective`, else what the folder's `training.json` says, else that of the architecture's head; a
sentence-transformers folder (`modules.json`) and a model without a head give vectors. `options.pairs` makes a text classifier
take pairs of texts.
"""

import json
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format, Opened, Original

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "masked-lm",
    "ForNextSentencePrediction": "next-sentence-prediction",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForPreTraining": "masked-lm",
}
_OBJECTIVES = sorted({*_HEADS.values(), "no-objective"})


class Transformers(Format):
    """Code of the folder's own (`auto_map`) is run only when it is trusted."""

    name = "huggingface"
    packages = ("torch", "transformers", "safetensors", "tokenizers")
    files = "config.json with a model_type, model.safetensors"

    def detects(self, root: Path) -> bool:
        if not root.is_dir() or not any((root / name).is_file() for name in (*_WEIGHTS, "tf_model.h5")):
            return False
        try:
            return "model_type" in json.loads((root / "config.json").read_text())
        except (OSError, ValueError, TypeError):
            return False

    def open(self, opened: Opened) -> Original:
        root = opened.root
        config = _config(root)
        objective = _objective(root, config, opened.options or {})
        if objective == "causal-lm":
            from mlaas.modelserver.formats.transformers_generation import Generator

            return Generator(opened)
        from mlaas.modelserver.formats.transformers_export import Model

        return Model(opened, objective, config)


def _config(root: Path) -> dict[str, Any]:
    try:
        config = json.loads((root / "config.json").read_text())
        config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{root.name}/config.json is no model configuration: {error}.", field="source") from error
    if not any((root / name).is_file() for name in _WEIGHTS):
        hint = "Expected model.safetensors."
        if (root / "tf_model.h5").is_file():
            hint = (
                "It holds only TensorFlow weights, which transformers no longer reads: convert them once with transformers 4 "
                "(`from_pretrained(DIR, from_tf=True).save_pretrained(DIR)`)."
            )
        raise Invalid(f"{root.name} has a configuration but no weights.", field="source", hint=hint)
    return dict(config)


def _objective(root: Path, config: dict[str, Any], options: dict[str, Any]) -> str:
    asked = options.get("objective") or _trained(root)
    if asked:
        if asked not in _OBJECTIVES:
            raise Invalid(
                f"There is no objective '{asked}'.", field="options.objective", hint=f"One of {', '.join(_OBJECTIVES)}."
            )
        return str(asked)
    if (root / "modules.json").is_file():
        return "no-objective"
    for architecture in config.get("architectures") or []:
        for suffix, objective in _HEADS.items():
            if str(architecture).endswith(suffix):
                return objective
        if not str(architecture).endswith(("Model", "Encoder")):
            raise Invalid(
                f"A model of the architecture {architecture} has no objective that is served.",
                field="options.objective",
                hint=f"Name one of {', '.join(_OBJECTIVES)}, or serve it by a custom predictor.",
            )
    return "no-objective"


def _trained(root: Path) -> str:
    """The objective that `training.json` says, which our own recipe writes."""
    try:
        return str(json.loads((root / "training.json").read_text())["parameters"]["model"]["objective"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


FORMAT = Transformers()
