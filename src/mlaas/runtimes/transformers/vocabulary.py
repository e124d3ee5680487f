"""Train only the rows of an embedding matrix that the data touches: exact, and much less to compute.

The gradient of a token that occurs nowhere in the data is zero in every step, so its Adam moments stay zero and only weight
decay acts on it: a factor that is known without the row (Loshchilov and Hutter 2019, arXiv:1711.05101: w <- w - lr*decay*w).
A model is trained with a matrix of the tokens that occur; at the end the rows go back, the others scaled by that factor. It is
not for models whose output layer is tied to the matrix, or that predict tokens: there every row has a gradient.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(slots=True)
class Compacted:
    """`used`: the token ids that are kept, ascending; `lookup`: old id -> row; `full`: the matrix as it was."""

    used: torch.Tensor
    lookup: NDArray[np.int32]
    full: torch.Tensor
    padding: int | None
    decay: float = 1.0

    def shrunk(self, lr: float, rate: float) -> None:
        """Account for one step of decoupled weight decay."""
        self.decay *= 1.0 - lr * rate


def compact(model: Any, used: NDArray[np.integer]) -> Compacted | None:
    """Replace the input embeddings of `model` by those of the tokens `used`; None when it would not pay or not be exact."""
    embeddings = model.get_input_embeddings()
    if type(embeddings) is not torch.nn.Embedding or embeddings.max_norm is not None or embeddings.scale_grad_by_freq:
        return None
    if len(used) > 0.7 * embeddings.num_embeddings or not embeddings.weight.requires_grad:
        return None
    output = model.get_output_embeddings()
    if output is not None and getattr(output, "weight", None) is embeddings.weight:
        return None
    kept = sorted({*map(int, used), *([embeddings.padding_idx] if embeddings.padding_idx is not None else [])})
    rows = torch.tensor(kept, dtype=torch.long)
    lookup = np.zeros(embeddings.num_embeddings, dtype=np.int32)
    lookup[kept] = np.arange(len(kept), dtype=np.int32)
    full = embeddings.weight.detach()
    padding = None if embeddings.padding_idx is None else int(lookup[embeddings.padding_idx])
    small = torch.nn.Embedding(len(kept), embeddings.embedding_dim, padding_idx=padding, dtype=full.dtype)
    with torch.no_grad():
        small.weight.copy_(full[rows])
    state = Compacted(rows, lookup, full, embeddings.padding_idx)
    model.set_input_embeddings(small.to(full.device))
    return state


def expand(model: Any, state: Compacted, trained: torch.Tensor) -> None:
    """Put a full matrix back, with the rows of `trained` (tokens used, width) in their places."""
    full = state.full.float() * state.decay
    full[state.used] = trained.to(full.device, torch.float32)
    whole = torch.nn.Embedding(*full.shape, padding_idx=state.padding, _weight=full)
    model.set_input_embeddings(whole)
