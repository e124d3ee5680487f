"""From token vectors to one vector per text, as the model's own configuration says.

The configuration is that of sentence-transformers: `modules.json` lists the steps, each with a folder and its `config.json`
(pooling modes: Reimers and Gurevych 2019, arXiv:1908.10084). A model without one is pooled by the mean, not normalised.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mlaas.kernel.errors import Invalid

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
_LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {
    "Tanh": torch.tanh,
    "Identity": lambda vectors: vectors,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "Sigmoid": torch.sigmoid,
}


@dataclass(frozen=True)
class Dense:
    """A linear layer after the pooling. `weight`: (out, in)."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: str

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        return _ACTIVATIONS[self.activation](torch.nn.functional.linear(vectors, self.weight, self.bias))


@dataclass(frozen=True)
class Pooling:
    """`modes` are concatenated in order. `prompts`: what is put before a text, by role (`query`, `document`)."""

    modes: tuple[str, ...] = ("mean",)
    normalize: bool = False
    max_length: int | None = None
    lower_case: bool = False
    dense: tuple[Dense, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "+".join(self.modes)

    def __call__(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`tokens`: (texts, length, width), `mask`: (texts, length) with 1 for a token. Returns (texts, dimension)."""
        vectors = torch.cat([_pool(mode, tokens, mask) for mode in self.modes], dim=-1)
        for layer in self.dense:
            vectors = layer(vectors)
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors


def _pool(mode: str, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if mode == "cls":
        return tokens[torch.arange(len(tokens)), mask.argmax(dim=1)]
    if mode == "lasttoken":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return tokens[torch.arange(len(tokens)), last]
    if mode == "max":
        return tokens.masked_fill(mask[..., None] == 0, -1e9).max(dim=1).values
    weights = mask.to(tokens.dtype)
    if mode == "weightedmean":
        weights = weights * torch.arange(1, mask.shape[1] + 1, dtype=tokens.dtype)
    total = (tokens * weights[..., None]).sum(dim=1)
    count = weights.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def load(folder: Path) -> Pooling:
    """The pooling of a model folder. Raises Invalid for a step that is not known: its vectors would be wrong."""
    if not (folder / "modules.json").is_file():
        return Pooling()
    try:
        return _load(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(
            f"{folder.name}/modules.json, or what it names, is damaged: {error}.",
            field="model.path",
            hint="Copy the whole model folder again, or remove modules.json to pool by the mean.",
        ) from error


def _load(folder: Path) -> Pooling:
    modes: tuple[str, ...] = ("mean",)
    dense: list[Dense] = []
    normalize = False
    settings: dict[str, Any] = {}
    for module in _json(folder / "modules.json"):
        kind = str(module["type"]).rsplit(".", 1)[-1]
        part = folder / _inside(str(module["path"]))
        if kind == "Transformer":
            settings = _first(part, ("sentence_bert_config.json", "sentence_xlm-roberta_config.json"))
        elif kind == "Pooling":
            modes = _modes(_json(part / "config.json"))
        elif kind == "Dense":
            dense.append(_dense(part))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Dropout":
            raise Invalid(
                f"The model has a step of kind {kind} after its transformer, which is not known.",
                field="model.path",
                hint="Known are Transformer, Pooling, Dense, Normalize and Dropout.",
            )
    prompts = _first(folder, ("config_sentence_transformers.json",))
    return Pooling(
        modes,
        normalize,
        settings.get("max_seq_length"),
        bool(settings.get("do_lower_case")),
        tuple(dense),
        _prompts(prompts),
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _first(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    return next((dict(_json(folder / name)) for name in names if (folder / name).is_file()), {})


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in Path(path).parts:
        raise ValueError(f"the path {path!r} leaves the folder")
    return path


def _modes(config: dict[str, Any]) -> tuple[str, ...]:
    given = config.get("pooling_mode") or [mode for key, mode in _LEGACY.items() if config.get(key)] or "mean"
    modes = (given,) if isinstance(given, str) else tuple(given)
    if unknown := set(modes) - set(MODES):
        raise ValueError(f"there is no pooling mode {sorted(unknown)}")
    return modes


def _prompts(config: dict[str, Any]) -> dict[str, str]:
    """The prompts of queries and documents; the default one, where it is named, serves both."""
    prompts = {str(name): str(text) for name, text in (config.get("prompts") or {}).items() if text}
    default = prompts.get(str(config.get("default_prompt_name")), "")
    found = {
        "query": prompts.get("query", default),
        "document": prompts.get("document") or prompts.get("passage", default),
    }
    return {role: text for role, text in found.items() if text}


def _dense(folder: Path) -> Dense:
    from safetensors.torch import load_file

    config = _json(folder / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS or config.get("use_residual"):
        raise ValueError(f"a dense layer with {activation} is not known")
    if (folder / "model.safetensors").is_file():
        weights = load_file(folder / "model.safetensors")
    else:
        weights = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    bias = weights.get("linear.bias")
    return Dense(weights["linear.weight"].float(), None if bias is None else bias.float(), activation)
