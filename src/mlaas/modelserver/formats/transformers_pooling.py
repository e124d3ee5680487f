"""Vectors of a transformer, pooled by the indexer's own code, so that a query meets the vectors that were stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlaas.modelserver.compiled import objectives
from mlaas.runtimes.embed import pooling

_NAMES = {"mean_sqrt_len_tokens": "mean_sqrt_len"}


class Pooled:
    """What `modules.json` says; the mean, not normalised, where there is none."""

    def __init__(self, root: Path) -> None:
        self.pooling = pooling.load(root)
        self.max_length = self.pooling.max_length

    @property
    def dense(self) -> bool:
        return bool(self.pooling.dense)

    def facts(self) -> dict[str, Any]:
        """Plain data for the compiled form."""
        found = self.pooling
        return {
            "modes": [_NAMES.get(mode, mode) for mode in found.modes],
            "normalize": found.normalize,
            "lower_case": found.lower_case,
            "prompts": dict(found.prompts),
        }


class Vectors(objectives.Embedding):
    """Pools in torch."""

    def __init__(
        self, facts: Mapping[str, Any], tokenizer: objectives.Tokenizer, run: objectives.Run, pooled: Pooled
    ) -> None:
        super().__init__(facts, tokenizer, run)
        self._pooling = pooled.pooling

    def decode(self, texts: Any, encodings: Any, found: Any, parameters: Any) -> objectives.Columns:
        import torch

        rows = []
        with torch.inference_mode():
            for each in found:
                states = torch.from_numpy(each["states"])[None]
                rows.append(self._pooling(states, torch.ones(states.shape[:2], dtype=torch.int64))[0].numpy())
        return {"embedding": np.stack(rows)}
