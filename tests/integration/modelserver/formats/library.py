"""A model as its own library answers, in an environment that has it: a script, `library.py tensorflow|mlflow FOLDER`, that reads
a request a line from its standard input, `{"inputs": {name: [rows]}}`, and writes an answer a line, `{name: [rows]}`."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def tensorflow(folder: str) -> Answer:
    """The signature that is served by default."""
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    call = model.signatures["serving_default"]
    taken = call.structured_input_signature[1]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        found = call(**{name: tf.constant(inputs[name], spec.dtype) for name, spec in taken.items()})
        return {name: tensor.numpy().tolist() for name, tensor in found.items()}

    return answer


def mlflow(folder: str) -> Answer:
    """Its `pyfunc`, of a table where the model's signature has columns, else of an array."""
    import mlflow.pyfunc
    import numpy as np
    import pandas

    model = mlflow.pyfunc.load_model(folder)
    taken = model.metadata.get_input_schema()

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        if taken.is_tensor_spec():
            (rows,) = inputs.values()
            found = model.predict(np.array(rows, dtype=taken.inputs[0].type))
        else:
            columns = {name: inputs[name] for name in taken.input_names()}
            found = model.predict(pandas.DataFrame(columns))
        if hasattr(found, "to_dict"):
            return {name: column.tolist() for name, column in found.items()}
        return {"": np.asarray(found).tolist()}

    return answer


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    answer = {"tensorflow": tensorflow, "mlflow": mlflow}[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)["inputs"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
