"""The models that Triton's public client examples ask for, as folders for `mlaas serve`: `simple` as an ONNX graph, which is
compiled; the others as Python classes, which run in workers."""

from pathlib import Path

_STRINGS = '''
import numpy as np


class Model:
    """Sum and difference of whole numbers in decimal digits."""

    inputs = [{"name": name, "datatype": "BYTES", "shape": [-1, 16]} for name in ("INPUT0", "INPUT1")]
    outputs = [{"name": name, "datatype": "BYTES", "shape": [-1, 16]} for name in ("OUTPUT0", "OUTPUT1")]

    def predict(self, inputs):
        left, right = (np.vectorize(int, otypes=[np.int64])(inputs[name]) for name in ("INPUT0", "INPUT1"))
        return {"OUTPUT0": (left + right).astype(str), "OUTPUT1": (left - right).astype(str)}
'''

_IDENTITY = '''
class Model:
    """Texts, given back."""

    inputs = [{"name": "INPUT0", "datatype": "BYTES", "shape": [-1, 16]}]
    outputs = [{"name": "OUTPUT0", "datatype": "BYTES", "shape": [-1, 16]}]

    def predict(self, inputs):
        return {"OUTPUT0": inputs["INPUT0"]}
'''

_BYTES = '''
class Model:
    """8-bit numbers, given back."""

    inputs = [{"name": "INPUT0", "datatype": "INT8", "shape": [-1, 16]}]
    outputs = [{"name": "OUTPUT0", "datatype": "INT8", "shape": [-1, 16]}]

    def predict(self, inputs):
        return {"OUTPUT0": inputs["INPUT0"]}
'''

_SEQUENCE = '''
class Model:
    """Each number of a sequence, the first one plus one."""

    inputs = [{"name": "INPUT", "datatype": "INT32", "shape": [-1, 1]}]
    outputs = [{"name": "OUTPUT", "datatype": "INT32", "shape": [-1, 1]}]

    def predict(self, inputs, parameters):
        return {"OUTPUT": inputs["INPUT"] + bool(parameters.get("sequence_start"))}
'''

_RUNNING_SUM = '''
class Model:
    """The sum of a sequence so far; with its last number, the sequence's id is added."""

    inputs = [{"name": "INPUT", "datatype": "INT32", "shape": [-1, 1]}]
    outputs = [{"name": "OUTPUT", "datatype": "INT32", "shape": [-1, 1]}]

    def load(self):
        self.sums = {}

    def predict(self, inputs, parameters):
        sequence = parameters["sequence_id"]
        if parameters.get("sequence_start"):
            self.sums[sequence] = 0
        self.sums[sequence] = self.sums[sequence] + inputs["INPUT"]
        if not parameters.get("sequence_end"):
            return {"OUTPUT": self.sums[sequence]}
        return {"OUTPUT": self.sums.pop(sequence) + int(sequence)}
'''

_REPEAT = '''
import asyncio


class Model:
    """Decoupled: each element of IN as an answer of its own, DELAY microseconds after the one before."""

    inputs = [
        {"name": "IN", "datatype": "INT32", "shape": [-1]},
        {"name": "DELAY", "datatype": "UINT32", "shape": [-1]},
        {"name": "WAIT", "datatype": "UINT32", "shape": [1]},
    ]
    outputs = [
        {"name": "OUT", "datatype": "INT32", "shape": [1]},
        {"name": "IDX", "datatype": "UINT32", "shape": [1]},
    ]
    batched = False
    properties = {"decoupled": "true"}

    async def predict(self, inputs):
        for place, (value, delay) in enumerate(zip(inputs["IN"], inputs["DELAY"])):
            await asyncio.sleep(float(delay) / 1e6)
            yield {"OUT": [value], "IDX": [place]}
'''

_CLASSES = {
    "simple_string": _STRINGS,
    "simple_identity": _IDENTITY,
    "simple_int8": _BYTES,
    "simple_sequence": _SEQUENCE,
    "simple_dyna_sequence": _RUNNING_SUM,
    "repeat_int32": _REPEAT,
}
NAMES = ("simple", *_CLASSES)


def write(root: Path) -> list[Path]:
    """Write all of them below `root`; their folders."""
    _simple(root / "simple")
    for name, text in _CLASSES.items():
        (root / name).mkdir()
        (root / name / "model.py").write_text(text)
    return [root / name for name in NAMES]


def _simple(folder: Path) -> None:
    """Sum and difference of two INT32 tensors of n x 16."""
    from onnx import TensorProto, checker, helper, save_model

    pairs = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", 16]) for name in names] for names in pairs
    )
    nodes = [
        helper.make_node(kind, list(pairs[0]), [name]) for kind, name in zip(("Add", "Sub"), pairs[1], strict=True)
    ]
    graph = helper.make_graph(nodes, "simple", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    folder.mkdir()
    save_model(model, folder / "model.onnx")
