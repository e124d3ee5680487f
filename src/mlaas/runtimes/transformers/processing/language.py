"""Language models: which tokens are masked, what stands for them, windows over long texts."""

from collections.abc import Collection
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.runtimes.transformers.processing.arrays import softmax

IGNORED = -100


def mask_tokens(
    ids: NDArray[np.integer],
    maskable: NDArray[np.bool_],
    share: float,
    mask: int,
    vocabulary: int,
    draw: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(ids, labels): of the tokens that may be masked a `share` is to be predicted (at least one where there is any); 80% of
    these become the mask token, 10% any token, 10% stay (Devlin et al. 2018, arXiv:1810.04805). Labels elsewhere are -100."""
    uniform = draw.random(ids.shape)
    uniform[~maskable] = 2.0
    chosen = uniform < share
    if not chosen.any() and maskable.any():
        chosen.flat[uniform.argmin()] = True
    fate = draw.random(ids.shape)
    changed = ids.astype(np.int64)
    changed[chosen & (fate < 0.8)] = mask
    other = chosen & (fate >= 0.8) & (fate < 0.9)
    changed[other] = draw.integers(0, vocabulary, int(other.sum()))
    return changed, np.where(chosen, ids, IGNORED).astype(np.int64)


def windows(ids: list[int], longest: int) -> list[list[int]]:
    """Consecutive pieces of at most `longest` tokens, of even lengths, together all of them."""
    if len(ids) <= longest:
        return [ids] if ids else []
    count = -(-len(ids) // longest)
    edges = [round(i * len(ids) / count) for i in range(count + 1)]
    return [ids[a:b] for a, b in pairwise(edges)]


def candidates(logits: NDArray[np.floating], count: int, special: Collection[int]) -> list[list[tuple[int, float]]]:
    """(masks, vocabulary) -> for each mask the `count` most probable (token id, probability); special tokens last."""
    found = []
    for row in softmax(logits):
        order = [int(i) for i in np.argsort(-row, kind="stable")[: count + len(special)] if int(i) not in special][
            :count
        ]
        found.append([(i, round(float(row[i]), 6)) for i in order])
    return found


def perplexity(loss: float) -> float:
    """exp(loss), without overflow."""
    return float(np.exp(min(loss, 700.0)))


def summary(loss: float, right: int, count: int) -> dict[str, Any]:
    mean = loss / max(1, count)
    return {"loss": mean, "accuracy": right / max(1, count), "perplexity": perplexity(mean)}
