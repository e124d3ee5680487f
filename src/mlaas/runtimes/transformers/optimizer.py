"""Optimisers over 32-bit master weights, and the learning-rate schedules.

A model may compute in bfloat16, whose 8 bits of mantissa lose an update smaller than 1/256 of a weight. So the optimiser works
on 32-bit copies (Micikevicius et al. 2017, arXiv:1710.03740), from which the model's weights are rounded after every step.
All weights lie in one flat buffer with those that decay first: one fused call instead of one a tensor.
"""

import itertools
import math
from collections.abc import Collection, Iterable
from typing import Any

import torch

from mlaas.runtimes.transformers.spec import ModelTrain

_FLAT = ("AdamW", "Adam", "SGD")


def learning_rate(step: int, steps: int, train: ModelTrain) -> float:
    """The rate of optimiser step `step` (from 0) of `steps`: linear warm-up to `init_lr`, then the schedule down to 0."""
    peak, warm = train.optimizer.init_lr, train.optimizer.num_warm_steps
    if step < warm:
        return peak * (step + 1) / warm
    if train.scheduler == "constant":
        return peak
    done = (step - warm) / max(1, steps - warm)
    if train.scheduler == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return peak * max(0.0, 1.0 - done)


def decays(name: str, tensor: torch.Tensor) -> bool:
    """Weight decay is for matrices: not for biases and the scales of normalisations."""
    return tensor.ndim > 1 and not name.endswith("bias")


class Master:
    """The trainable weights in 32 bits, their gradients, and the optimiser over them."""

    def __init__(
        self,
        named: Iterable[tuple[str, torch.nn.Parameter]],
        train: ModelTrain,
        compute: torch.dtype,
        fresh: Collection[str] = (),
    ) -> None:
        """`fresh` names the weights that start afresh: they learn at `train.head_rate` times the rate."""
        head = frozenset(fresh) if train.head_rate != 1.0 else frozenset()

        def kind(item: tuple[str, torch.nn.Parameter]) -> tuple[bool, bool]:
            return item[0] in head, not decays(*item)

        trainable = sorted(((name, p) for name, p in named if p.requires_grad), key=kind)
        self.names = [name for name, _ in trainable]
        self.parameters = [p for _, p in trainable]
        sizes = [p.numel() for p in self.parameters]
        device = self.parameters[0].device
        self.weights = torch.empty(sum(sizes), dtype=torch.float32, device=device)
        self.gradients = torch.zeros_like(self.weights)
        self.compute = self.weights if compute == torch.float32 else torch.empty_like(self.weights, dtype=compute)
        self.views: list[torch.Tensor] = []
        self._gradient_views: list[torch.Tensor] = []
        offset = 0
        for p, size in zip(self.parameters, sizes, strict=True):
            view = self.weights[offset : offset + size].view(p.shape)
            view.copy_(p.detach())
            self.views.append(view)
            self._gradient_views.append(self.gradients[offset : offset + size].view(p.shape))
            p.data = self.compute[offset : offset + size].view(p.shape)
            offset += size
        self.publish()
        self.max_norm = train.max_grad_norm
        self._held = False
        self._fused = train.optimizer.name in _FLAT
        self.optimizer: Any = self._build(
            train, [(kind(item), size) for item, size in zip(trainable, sizes, strict=True)]
        )

    def _build(self, train: ModelTrain, kinds: list[tuple[tuple[bool, bool], int]]) -> torch.optim.Optimizer:
        """The optimiser. `kinds`: of each weight whether it is of a fresh head and whether it is spared decay, and its size.
        Weights of one kind lie side by side and are one piece, but for Adafactor, which goes by the shape of each."""
        wanted = train.optimizer
        pieces: list[tuple[torch.Tensor, torch.Tensor, tuple[bool, bool]]] = []
        if wanted.name in _FLAT:
            offset = 0
            for kind, members in itertools.groupby(kinds, key=lambda item: item[0]):
                end = offset + sum(size for _, size in members)
                pieces.append((self.weights[offset:end], self.gradients[offset:end], kind))
                offset = end
        else:
            for view, gradient, (kind, _) in zip(self.views, self._gradient_views, kinds, strict=True):
                pieces.append((view, gradient, kind))
        groups = []
        for weight, gradient, (fresh, spared) in pieces:
            leaf = torch.nn.Parameter(weight)
            leaf.grad = gradient
            decay = 0.0 if spared else wanted.weight_decay_rate
            groups.append({"params": [leaf], "weight_decay": decay, "scale": train.head_rate if fresh else 1.0})
        lr = wanted.init_lr
        if wanted.name == "AdamW":
            return torch.optim.AdamW(groups, lr=lr, fused=True)
        if wanted.name == "Adam":
            return torch.optim.Adam(groups, lr=lr, fused=True)
        if wanted.name == "SGD":
            return torch.optim.SGD(groups, lr=lr, momentum=0.9, fused=True)
        return torch.optim.Adafactor(groups, lr=lr)

    def gather(self, scale: float = 1.0) -> None:
        """Add the gradients of a backward pass, times `scale`, to the held ones, and free the model's own."""
        missing = [g for g, p in zip(self._gradient_views, self.parameters, strict=True) if p.grad is None]
        pairs = [(g, p.grad) for g, p in zip(self._gradient_views, self.parameters, strict=True) if p.grad is not None]
        held, fresh = [g for g, _ in pairs], [f for _, f in pairs]
        if self._held:
            torch._foreach_add_(held, [f.float() for f in fresh], alpha=scale)
        else:
            for gradient in missing:
                gradient.zero_()
            torch._foreach_copy_(held, fresh)
            if scale != 1.0:
                self.gradients.mul_(scale)
        self._held = True
        for p in self.parameters:
            p.grad = None

    def step(self, lr: float) -> torch.Tensor:
        """Clip to the norm, step, round into the model. Returns the norm before clipping (a tensor: no wait for a device)."""
        norm = torch.linalg.vector_norm(self.gradients)
        excess = torch.clamp((norm + 1e-6) / self.max_norm, min=1.0)
        if self._fused:
            self.optimizer.grad_scale = excess  # the fused step divides by it as it goes
        else:
            self.gradients.div_(excess)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        self.optimizer.step()
        self._held = False
        self.publish()
        return norm

    def publish(self) -> None:
        if self.compute is not self.weights:
            self.compute.copy_(self.weights)

    def restore(self, weights: torch.Tensor) -> None:
        """Take over a copy of `weights`."""
        self.weights.copy_(weights)
        self.publish()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and optimiser state as named tensors: what a checkpoint holds."""
        tensors = {"weights": self.weights}
        for i, leaf in enumerate(self._leaves()):
            for key, value in self.optimizer.state[leaf].items():
                tensors[f"optimizer.{i}.{key}"] = value if torch.is_tensor(value) else torch.tensor(float(value))
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """The inverse of `state`."""
        self.restore(tensors["weights"])
        leaves = self._leaves()
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                leaf = leaves[int(index)]
                self.optimizer.state[leaf][key] = value.clone() if key == "step" else value.clone().to(leaf.device)

    def _leaves(self) -> list[torch.Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]
