"""TensorFlow in an environment of its own, as models name it, kept between runs; and models saved with it."""

import os
import subprocess
from pathlib import Path

from mlaas.modelserver.cache import Cache
from mlaas.modelserver.formats.savedmodel import REQUIREMENTS
from mlaas.modelserver.worker.environments import build

KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlaas-tests" / "models"

DENSE = """
import keras, sys
keras.utils.set_random_seed(1)
layers = [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3, activation="softmax")]
keras.Sequential(layers).export(sys.argv[1], verbose=False)
"""
TEXTS = """
import sys
import tensorflow as tf

class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x"), tf.TensorSpec([None], tf.string, name="text")])
    def both(self, x, text):
        return {"sum": tf.reduce_sum(x, 1), "upper": tf.strings.upper(text)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])
    def double(self, x):
        return 2 * x

model = Model()
tf.saved_model.save(model, sys.argv[1], signatures={"both": model.both, "double": model.double})
"""


def cache(folder: Path) -> Cache:
    """An empty cache that has the environment already."""
    folder.mkdir()
    KEPT.joinpath("environments").mkdir(parents=True, exist_ok=True)
    (folder / "environments").symlink_to(KEPT / "environments")
    return Cache(folder)


def save(script: str, folder: Path) -> None:
    """Run a script that saves a model into a folder. Raises AssertionError with what it wrote when it fails."""
    python = build(REQUIREMENTS, KEPT)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KERAS_BACKEND")}
    command = [str(python), "-W", "ignore", "-c", script, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment | {"TF_CPP_MIN_LOG_LEVEL": "2"}, check=False
    )
    assert done.returncode == 0, done.stderr
