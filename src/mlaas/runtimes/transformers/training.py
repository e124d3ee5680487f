"""The training loop.

Everything random is a function of the seed and the place in the training (epoch, batch): the order of the rows, the masking,
the dropout. So a resumed training needs only its place and its weights, and ends bit-equal to one that never stopped.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.child import stopping
from mlaas.runtimes.report import Reporter
from mlaas.runtimes.taskfile import Interrupted
from mlaas.runtimes.transformers import batches, checkpoint
from mlaas.runtimes.transformers.objectives.base import Batch, Objective, Prepared
from mlaas.runtimes.transformers.optimizer import learning_rate
from mlaas.runtimes.transformers.spec import ModelTrain
from mlaas.runtimes.transformers.weights import Trainable

CHECKPOINT_SECONDS = 60.0
REPORT_SECONDS = 0.5
MULTIPLE = 2  # lengths are rounded up to it: fewer shapes
_EVALUATION_BATCH = 64


class Training:
    """Trains `part.model` on `data` and keeps the best epoch. `key` names the training: only its own checkpoints count."""

    def __init__(
        self,
        part: Trainable,
        objective: Objective,
        data: Prepared,
        train: ModelTrain,
        *,
        key: str,
        checkpoints: Path,
        reporter: Reporter,
        device: torch.device,
    ) -> None:
        self.part, self.objective, self.data, self.train = part, objective, data, train
        self.key, self.checkpoints, self.reporter, self.device = key, checkpoints, reporter, device
        self.lengths = data.train.lengths()
        self.batches = math.ceil(len(self.lengths) / train.batch_size)
        self.steps = math.ceil(self.batches / train.accumulation) * train.epochs
        self.epoch = self.batch = self.step = 0
        self.losses = torch.zeros(self.batches, device=device)
        self.right = torch.zeros(2, dtype=torch.float64, device=device)
        self.history: dict[str, list[float]] = {}
        self.evaluation: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        self.best_weights: torch.Tensor | None = None
        self.stale = 0
        self.resumed = 0
        self.first_step = 0.0  # when this attempt's first optimiser step was done, seconds since 1970
        self._reported = self._saved = time.monotonic()
        self._rows = 0
        stopper = train.early_stopping
        self.metric = stopper.metric if stopper else objective.metric

    def run(self) -> None:
        """Train to the end, from the latest checkpoint where there is one. Raises Interrupted (after a checkpoint) when the
        process was asked to stop, and Invalid for a loss that is no number."""
        self._resume()
        while self.epoch < self.train.epochs and not self._stopped_early():
            self._train_epoch()
            self._finish_epoch()
        if self.best_weights is not None:
            self.part.master.restore(self.best_weights)
            if self.part.compacted is not None:
                self.part.compacted.decay = self.best["decay"]
        self._report(force=True)

    def _train_epoch(self) -> None:
        model, size = self.part.model, self.train.accumulation
        model.train()
        order = batches.shuffled(self.lengths, self.train.batch_size, self.train.seed, self.epoch)
        for start in range(self.batch, len(order), size):
            group = order[start : start + size]
            for i, rows in enumerate(group, start):
                torch.manual_seed(self._seed(i))
                self.part.dropout.seed(self._seed(i))
                found = self.objective.loss(model, self._batch(self.data.train, rows, self.epoch, i))
                found.value.backward()
                self.part.master.gather(1.0 / len(group))
                self.losses[i] = found.value.detach()
                self.right += torch.stack([found.right, found.count]).to(self.right)
                self._rows += len(rows)
            self.part.step(learning_rate(self.step, self.steps, self.train))
            self.step += 1
            self.first_step = self.first_step or time.time()
            self.batch = start + len(group)
            self._between_steps()

    def _between_steps(self) -> None:
        if stopping():
            self._save()
            raise Interrupted
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS or self.step == 1:
            self._report()
        every = self.train.checkpoint_every
        if self.step % every == 0 if every else now - self._saved >= CHECKPOINT_SECONDS:
            self._save()

    def _finish_epoch(self) -> None:
        self._check_finite()
        right, count = self.right.tolist()
        found = {"loss": float(self.losses.double().mean())}
        if count:
            found["accuracy"] = right / count
        self.evaluation = self.evaluate()
        if not math.isfinite(self.evaluation["loss"]):
            self._not_finite(self.step)
        for name in ("loss", "accuracy", "f1", "exact_match"):
            if isinstance(self.evaluation.get(name), float):
                found[f"test_{name}"] = self.evaluation[name]
        for name, value in found.items():
            self.history.setdefault(name, []).append(value)
        self._keep_best()
        self.epoch, self.batch = self.epoch + 1, 0
        measures = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        print(f"epoch {self.epoch} of {self.train.epochs}: {measures}", flush=True)
        self.losses.zero_()
        self.right.zero_()
        self._report(force=True)

    def evaluate(self) -> dict[str, Any]:
        """The objective's measures on the test set."""
        model = self.part.model
        model.eval()
        size = max(self.train.batch_size, _EVALUATION_BATCH)
        order = batches.by_length(self.data.test.lengths(), size)
        with torch.inference_mode():
            stream: Iterator[Batch] = (self._batch(self.data.test, rows, -1, i) for i, rows in enumerate(order))
            return self.objective.evaluate(model, stream, self.data)

    def _batch(self, tokens: Any, rows: Any, epoch: int, index: int) -> Batch:
        draw = np.random.Generator(np.random.PCG64([self.train.seed, epoch + 1, index]))
        return Batch(rows, tokens.batch(rows, self.data.padding, MULTIPLE), self.device, draw, self.part.lookup)

    def _seed(self, batch: int) -> int:
        return (self.train.seed << 31) ^ (self.epoch * self.batches + batch)

    def _keep_best(self) -> None:
        value = self.evaluation.get(self.metric, self.evaluation["loss"])
        lower = self.metric == "loss" or self.metric not in self.evaluation
        stopper = self.train.early_stopping
        rank = (-value if lower else value, -self.evaluation["loss"])
        previous = self.best.get("rank")
        margin = stopper.min_delta if stopper else 0.0
        improved = previous is None or rank[0] > previous[0] + margin
        self.stale = 0 if improved else self.stale + 1
        if previous is None or rank > tuple(previous):
            decay = self.part.compacted.decay if self.part.compacted is not None else 1.0
            self.best = {"epoch": self.epoch, "rank": rank, "decay": decay, "evaluation": self.evaluation}
            if self.train.epochs > 1:
                self.best_weights = self.part.master.weights.clone()

    def _stopped_early(self) -> bool:
        stopper = self.train.early_stopping
        return stopper is not None and self.stale >= stopper.patience

    def _check_finite(self) -> None:
        bad = torch.nonzero(~torch.isfinite(self.losses))
        if len(bad):
            self._not_finite(
                self.epoch * math.ceil(self.batches / self.train.accumulation)
                + int(bad[0]) // self.train.accumulation
                + 1
            )

    def _not_finite(self, step: int) -> None:
        lr = learning_rate(min(step, self.steps) - 1, self.steps, self.train)
        raise Invalid(
            f"The loss is no finite number at step {step} of {self.steps} (learning rate {lr:.3g}).",
            field="model_train.optimizer.init_lr",
            hint="Use a smaller init_lr, more num_warm_steps, or precision fp32.",
        )

    def _report(self, force: bool = False) -> None:
        self._check_finite()
        now = time.monotonic()
        metrics: dict[str, float] = {"epoch": self.epoch + self.batch / max(1, self.batches)}
        if self.batch:
            done = self.losses[max(0, self.batch - 50) : self.batch]
            metrics["loss"] = float(done.mean())
            right, count = self.right.tolist()
            if count:
                metrics["accuracy"] = right / count
        if self._rows and now > self._reported:
            metrics["samples_per_second"] = round(self._rows / (now - self._reported), 1)
        metrics["learning_rate"] = learning_rate(min(self.step, self.steps - 1), self.steps, self.train)
        if force:
            metrics.update({name: values[-1] for name, values in self.history.items()})
        self.reporter.progress(self.step, self.steps, "steps", metrics, self.step)
        self._reported, self._rows = now, 0

    def _save(self) -> None:
        self._check_finite()
        state = self.part.master.state() | {"losses": self.losses, "right": self.right}
        progress = {
            "key": self.key,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "history": self.history,
            "best": self.best,
            "stale": self.stale,
            "decay": self.part.compacted.decay if self.part.compacted is not None else 1.0,
        }
        checkpoint.write(self.checkpoints, self.step, state, self.best_weights, progress)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        found = checkpoint.read(self.checkpoints, self.key)
        if found is None:
            return
        state, self.best_weights, progress = found
        self.losses.copy_(state.pop("losses"))
        self.right.copy_(state.pop("right"))
        self.part.master.load(state)
        self.epoch, self.batch, self.step = progress["epoch"], progress["batch"], progress["step"]
        self.history, self.best, self.stale = progress["history"], progress["best"], progress["stale"]
        if self.part.compacted is not None:
            self.part.compacted.decay = progress["decay"]
        self.resumed = self.step
