"""Token vectors to one vector a text, as a sentence-transformers folder says (`modules.json`, `1_Pooling/config.json`)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Pooling:
    """`modes` in the order in which their vectors are joined; `stated` tells whether the model's folder says so."""

    modes: tuple[str, ...] = ("mean",)
    normalize: bool = True
    max_length: int | None = None
    stated: bool = False

    @classmethod
    def of(cls, folder: Path) -> "Pooling":
        """What the folder of a model says; mean over the tokens and unit length where it says nothing."""
        try:
            modules = json.loads((folder / "modules.json").read_text())
        except (OSError, ValueError):
            return cls()
        kinds = {str(module.get("type", "")).rsplit(".", 1)[-1]: str(module.get("path", "")) for module in modules}
        modes: tuple[str, ...] = ("mean",)
        if "Pooling" in kinds:
            config = json.loads((folder / kinds["Pooling"] / "config.json").read_text())
            if isinstance(config.get("pooling_mode"), str):
                modes = (config["pooling_mode"],)
            else:
                modes = tuple(mode for key, mode in _MODES.items() if config.get(key)) or ("mean",)
        longest = None
        settings = folder / "sentence_bert_config.json"
        if settings.is_file():
            longest = json.loads(settings.read_text()).get("max_seq_length")
        return cls(modes, "Normalize" in kinds, longest, True)

    def apply(self, states: NDArray[np.floating], mask: NDArray[np.integer]) -> NDArray[np.float32]:
        """(n, tokens, width) and (n, tokens) of 0 and 1 -> (n, width of all modes)."""
        states = states.astype(np.float32, copy=False)
        weights = mask.astype(np.float32)[:, :, None]
        count = np.maximum(weights.sum(axis=1), 1e-9)
        parts = []
        for mode in self.modes:
            if mode == "cls":
                parts.append(states[np.arange(len(states)), mask.argmax(axis=1)])
            elif mode == "max":
                parts.append(np.where(weights > 0, states, -np.inf).max(axis=1))
            elif mode == "mean_sqrt_len":
                parts.append((states * weights).sum(axis=1) / np.sqrt(count))
            elif mode == "weightedmean":
                rising = weights * np.arange(1, states.shape[1] + 1, dtype=np.float32)[None, :, None]
                parts.append((states * rising).sum(axis=1) / np.maximum(rising.sum(axis=1), 1e-9))
            elif mode == "lasttoken":
                last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
                parts.append(states[np.arange(len(states)), last])
            else:
                parts.append((states * weights).sum(axis=1) / count)
        vectors = np.concatenate(parts, axis=1)
        if self.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(vectors, dtype=np.float32)
