"""Small networks as their frameworks save them."""

import json
import os
import warnings
from pathlib import Path
from typing import Any


def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.utils.set_random_seed(1)
    return keras


def dense() -> Any:
    """Keras: four numbers in, three probabilities out."""
    layers = keras().layers
    return keras().Sequential(
        [keras().Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")]
    )


def keras_model(folder: Path) -> None:
    dense().save(folder / "model.keras")


def keras_hdf5(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras would have one save the other format
        dense().save(folder / "model.h5")


def linear() -> Any:
    """torch: four numbers in, three out."""
    import torch

    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()


def program(folder: Path) -> None:
    import torch

    batch = torch.export.Dim("batch")
    made = torch.export.export(linear(), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(made, folder / "model.pt2")


def script(folder: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have one export a program
        torch.jit.save(torch.jit.script(linear()), folder / "model.pt")
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}
    (folder / "signature.json").write_text(json.dumps(signature))
