"""Optimiser, smaller embedding matrix, order of the rows: each against plain torch or its definition."""

from typing import Any

import numpy as np
import pytest
import torch

from mlaas.runtimes.transformers import batches, vocabulary
from mlaas.runtimes.transformers.dropout import FastDropout, Stream
from mlaas.runtimes.transformers.optimizer import Master, learning_rate
from mlaas.runtimes.transformers.spec import ModelTrain, Optimizer


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(50, 8)
        self.out = torch.nn.Linear(8, 3)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.table

    def set_input_embeddings(self, table: torch.nn.Embedding) -> None:
        self.table = table

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, ids: torch.Tensor) -> Any:
        return self.out(self.table(ids).mean(1))


def test_a_smaller_embedding_matrix_trains_to_the_same_weights() -> None:
    train = ModelTrain(optimizer=Optimizer(init_lr=0.01, weight_decay_rate=0.1), max_grad_norm=1e9)
    torch.manual_seed(0)
    whole, small = Tiny(), Tiny()
    small.load_state_dict(whole.state_dict())
    ids = torch.tensor([[3, 7, 7], [12, 3, 40]])
    state = vocabulary.compact(small, np.array([3, 7, 12, 40]))
    assert state is not None
    assert small.table.num_embeddings == 4
    mapped = torch.from_numpy(state.lookup[ids.numpy()]).long()
    reference = torch.optim.AdamW(
        [{"params": [whole.table.weight, whole.out.weight]}, {"params": [whole.out.bias], "weight_decay": 0.0}],
        lr=0.01, weight_decay=0.1,
    )  # fmt: skip
    master = Master(small.named_parameters(), train, torch.float32)
    for step in range(5):
        lr = learning_rate(step, 5, train)
        for group in reference.param_groups:
            group["lr"] = lr
        whole(ids).square().sum().backward()
        reference.step()
        reference.zero_grad()
        small(mapped).square().sum().backward()
        master.gather()
        state.shrunk(lr, 0.1)
        master.step(lr)
    vocabulary.expand(small, state, small.table.weight.detach())
    torch.testing.assert_close(small.table.weight, whole.table.weight)
    torch.testing.assert_close(small.out.weight, whole.out.weight)


def test_small_updates_are_not_lost_in_bfloat16() -> None:
    part = torch.nn.Linear(4, 4, bias=False)
    torch.nn.init.ones_(part.weight)
    master = Master(
        part.named_parameters(), ModelTrain(optimizer=Optimizer(name="SGD", weight_decay_rate=0)), torch.bfloat16
    )
    for _ in range(100):
        part.weight.grad = torch.full((4, 4), 1e-2, dtype=torch.bfloat16)
        master.gather()
        master.step(1e-2)
    assert part.weight.dtype == torch.bfloat16
    assert float(part.weight.detach().float().mean()) < 0.95  # 1e-4 a step is below half a unit of bfloat16 at 1


def test_accumulated_gradients_are_their_mean() -> None:
    part = torch.nn.Linear(2, 2, bias=False)
    master = Master(part.named_parameters(), ModelTrain(), torch.float32)
    for value in (1.0, 3.0):
        part.weight.grad = torch.full((2, 2), value)
        master.gather(0.5)
    assert master.gradients.tolist() == [2.0] * 4


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adafactor"])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_gradients_are_clipped_to_the_norm(name: Any, max_norm: float) -> None:
    part, other = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)
    other.load_state_dict(part.state_dict())
    train = ModelTrain(optimizer=Optimizer(name=name, weight_decay_rate=0), max_grad_norm=max_norm)
    master = Master(part.named_parameters(), train, torch.float32)
    kind = {
        "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0),
        "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
        "Adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2, weight_decay=0),
    }[name]
    reference = kind(other.parameters())
    for scale in (1.0, 3.0, 0.01):  # clipped, clipped more, not clipped: what differs between steps counts
        gradient = torch.arange(16.0).view(4, 4) * scale
        part.weight.grad, other.weight.grad = gradient.clone(), gradient.clone()
        master.gather()
        norm = master.step(1e-2)
        expected = torch.nn.utils.clip_grad_norm_(other.parameters(), max_norm)
        reference.step()
        torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(part.weight, other.weight)


@pytest.mark.parametrize("scheduler", ["linear", "cosine"])
def test_the_rate_warms_up_and_falls_to_nothing(scheduler: Any) -> None:
    train = ModelTrain(optimizer=Optimizer(init_lr=1.0, num_warm_steps=10), scheduler=scheduler)
    rates = [learning_rate(step, 100, train) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(100, 100, train) == pytest.approx(0)


def test_an_epoch_has_every_row_once_in_batches_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 5000)
    order = batches.shuffled(lengths, 32, seed=1, epoch=0)
    assert sorted(np.concatenate(order).tolist()) == list(range(5000))
    padded = sum(lengths[rows].max() * len(rows) for rows in order)
    assert padded < 1.05 * lengths.sum()
    again = batches.shuffled(lengths, 32, seed=1, epoch=0)
    assert all((a == b).all() for a, b in zip(order, again, strict=True))
    other = batches.shuffled(lengths, 32, seed=1, epoch=1)
    assert [rows.tolist() for rows in other] != [rows.tolist() for rows in order]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_share_and_the_mean(dtype: torch.dtype) -> None:
    stream = Stream()
    stream.seed(3)
    part = FastDropout(0.1, stream).train()
    values = part(torch.ones(200, 500, dtype=dtype))
    assert values.dtype == dtype
    assert float((values == 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    assert values.unique().tolist() == [0.0, float(torch.tensor(1 / 0.9, dtype=dtype))]
    assert float(values.float().mean()) == pytest.approx(1.0, abs=0.005)
    stream.seed(3)
    assert torch.equal(part(torch.ones(200, 500, dtype=dtype)), values)
    assert torch.equal(part.eval()(values), values)


@pytest.mark.parametrize("name", ["SGD", "Adafactor"])
def test_a_fresh_head_learns_at_its_own_rate(name: Any) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    train = ModelTrain(optimizer=Optimizer(name=name, weight_decay_rate=0), head_rate=10.0, max_grad_norm=1e9)
    master = Master(model.named_parameters(), train, torch.float32, fresh=["1.weight", "1.bias"])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    master.gather()
    master.step(1e-3)
    body, head = (1.0 - float(part.weight.detach().mean()) for part in model)
    assert head == pytest.approx(10 * body, rel=0.01)
