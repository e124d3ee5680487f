"""Dropout whose random numbers cost little on a processor.

`torch.nn.Dropout` draws a Bernoulli number a value, which takes a sixth of a training step of a small encoder. Here one 64-bit
number of SFC64 decides on four values, each kept where its 16 bits are below (1 - p) * 65536: the same distribution to 1/65536.
"""

from typing import Any

import numpy as np
import torch


class Stream:
    """The random numbers of all dropouts of a model; `seed` before each batch makes them a function of its place."""

    def __init__(self) -> None:
        self._bits = np.random.SFC64(0)

    def seed(self, value: int) -> None:
        self._bits = np.random.SFC64(value)

    def factors(self, shape: torch.Size, share: float, dtype: torch.dtype) -> torch.Tensor:
        """Of about `share` of the values 1 / share, of the others 0."""
        count = shape.numel()
        words: Any = self._bits.random_raw(-(-count // 4))
        kept = words.view(np.uint16)[:count] < round(share * 65536)
        if dtype not in (torch.bfloat16, torch.float16):
            return torch.from_numpy(np.multiply(kept, np.float32(1.0 / share))).view(shape).to(dtype)
        # NumPy knows no bfloat16: 1 / share is written as its bits, 0 is all zeros.
        bits = int(torch.tensor(1.0 / share, dtype=dtype).view(torch.int16))
        return torch.from_numpy(np.multiply(kept, np.int16(bits))).view(dtype).view(shape)


class FastDropout(torch.nn.Module):  # type: ignore[misc]
    """`torch.nn.Dropout` on random numbers of a `Stream`."""

    def __init__(self, p: float, stream: Stream) -> None:
        super().__init__()
        self.p, self.stream = p, stream

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0.0:
            return values
        return values * self.stream.factors(values.shape, 1.0 - self.p, values.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def quicken(model: torch.nn.Module) -> Stream:
    """Replace every `torch.nn.Dropout` of a model on the CPU; p = 1 stays torch's."""
    stream = Stream()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is torch.nn.Dropout and child.p < 1.0:
                setattr(module, name, FastDropout(child.p, stream).train(child.training))
    return stream
