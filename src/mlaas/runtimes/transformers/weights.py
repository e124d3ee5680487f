"""A model made ready for training, and made whole again to be saved."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.transformers import attention, dropout, first_token, vocabulary
from mlaas.runtimes.transformers.folder import quiet
from mlaas.runtimes.transformers.objectives.base import Objective
from mlaas.runtimes.transformers.optimizer import Master
from mlaas.runtimes.transformers.spec import Lora, ModelTrain

# Encoders whose code reads token ids only to look up embeddings (and to find the padding token, whose id stays).
_COMPACTABLE = {
    "bert",
    "distilbert",
    "electra",
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
    "deberta-v2",
    "deberta",
}


class Trainable:
    """`model` computes in `compute`; `master` holds its trainable weights in 32 bits."""

    def __init__(
        self,
        model: Any,
        objective: Objective,
        train: ModelTrain,
        compute: torch.dtype,
        device: torch.device,
        used: Path,
        fresh: Collection[str] = (),
    ) -> None:
        self.compacted: vocabulary.Compacted | None = None
        exact = train.optimizer.name == "AdamW" or (
            train.optimizer.weight_decay_rate == 0 and train.optimizer.name != "Adafactor"
        )
        self._widen = first_token.narrow(model)
        if train.lora is not None:
            model = _with_adapters(model, train.lora, objective)
        elif exact and not objective.predicts_tokens and model.config.model_type in _COMPACTABLE:
            self.compacted = vocabulary.compact(model, np.load(used))
        self.lora = train.lora is not None
        self.model = model.to(device)
        self.dropout = dropout.Stream()
        if device.type == "cpu":
            self.dropout = dropout.quicken(self.model)
            attention.quicken(self.model)
        self._frozen: dict[str, torch.Tensor] = {}
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                self._frozen[name] = parameter.data
                parameter.data = parameter.data.to(compute)
        self.master = Master(self.model.named_parameters(), train, compute, fresh)
        self.rate = train.optimizer.weight_decay_rate

    @property
    def lookup(self) -> Any:
        return None if self.compacted is None else self.compacted.lookup

    def step(self, lr: float) -> torch.Tensor:
        if self.compacted is not None:
            self.compacted.shrunk(lr, self.rate)
        return self.master.step(lr)

    def whole(self) -> Any:
        """The model in 32 bits with all its embeddings, adapters merged. Training cannot go on after it."""
        for parameter, view in zip(self.master.parameters, self.master.views, strict=True):
            parameter.data = view
        for name, parameter in self.model.named_parameters():
            if name in self._frozen:
                parameter.data = self._frozen[name]
        if self.compacted is not None:
            vocabulary.expand(self.model, self.compacted, self.model.get_input_embeddings().weight.detach())
        attention.restore(self.model)
        if self._widen is not None:
            self._widen()
        if not self.lora:
            return self.model
        with quiet():
            return self.model.merge_and_unload()


def _with_adapters(model: Any, lora: Lora, objective: Objective) -> Any:
    import peft

    base = model.base_model_prefix
    heads = [name for name, part in model.named_children() if name != base and any(True for _ in part.parameters())]
    config = {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": None if objective.predicts_tokens or not hasattr(model, base) else heads or None,
    }
    try:
        with quiet():
            return peft.get_peft_model(model, peft.LoraConfig(target_modules=lora.target_modules, **config))
    except ValueError as error:
        if lora.target_modules is None:  # an architecture for which peft knows no usual choice
            with quiet():
                return peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", **config))
        raise Invalid(
            f"No module of the model is called {', '.join(lora.target_modules)}.",
            field="model_train.lora.target_modules",
            hint="Leave it out for the usual ones of the architecture.",
        ) from error
