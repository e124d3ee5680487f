"""However a network or a custom predictor is asked, it says what its library says (see `test_agreement.py`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.integration.modelserver.formats import networks
from tests.integration.modelserver.formats.agreement import Case, Inputs, Plain, Ways, check, parameters, served

# What the frameworks say of NumPy and of each other.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]


def numbers() -> st.SearchStrategy[Inputs]:
    elements = st.floats(-100, 100, width=32)
    return arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=elements).map(lambda rows: [rows])


@st.composite
def pairs(draw: st.DrawFn) -> Inputs:
    """Two rows of whole numbers, of any size: they overflow alike."""
    rows = draw(st.integers(1, 6))
    return [draw(arrays(np.int32, (rows, 16))) for _ in range(2)]


@st.composite
def named(draw: st.DrawFn) -> Inputs:
    """A number and any text a row."""
    rows = draw(st.lists(st.tuples(st.floats(-1e6, 1e6), st.text(max_size=20)), min_size=1, max_size=6))
    names = np.empty(len(rows), dtype=object)
    names[:] = [name.encode() for _, name in rows]
    return [np.array([number for number, _ in rows]), names]


def onnx(folder: Path) -> Plain:
    """A graph as another library may write one: Gemm, Relu, Gemm, Softmax."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    shapes = {"w1": (4, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
    held = [numpy_helper.from_array(random.normal(size=shapes[name]).astype(np.float32), name) for name in shapes]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w2", "b2"], ["c"]),
        helper.make_node("Softmax", ["c"], ["probabilities"], axis=-1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 3])]
    _save(helper.make_graph(nodes, "mlp", inputs, outputs, held), folder)
    return _reference(onnx.load(folder / "model.onnx"), ("x",))


def simple(folder: Path) -> Plain:
    """Triton's `simple`: sum and difference."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    inputs = [helper.make_tensor_value_info(f"INPUT{i}", TensorProto.INT32, ["rows", 16]) for i in (0, 1)]
    outputs = [helper.make_tensor_value_info(f"OUTPUT{i}", TensorProto.INT32, ["rows", 16]) for i in (0, 1)]
    _save(helper.make_graph(nodes, "simple", inputs, outputs), folder)
    return _reference(onnx.load(folder / "model.onnx"), ("INPUT0", "INPUT1"))


def _save(graph: Any, folder: Path) -> None:
    import onnx

    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9),
        folder / "model.onnx",
    )


def _reference(model: Any, names: tuple[str, ...]) -> Plain:
    """ONNX's own evaluator, which shares no code with ONNX Runtime."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    outputs = [output.name for output in model.graph.output]

    def answer(inputs: Inputs) -> dict[str, Any]:
        with np.errstate(over="ignore"):
            return dict(zip(outputs, evaluator.run(None, dict(zip(names, inputs, strict=True))), strict=True))

    return answer


def keras(folder: Path) -> Plain:
    model = networks.dense()
    model.save(folder / "model.keras")
    name = model.layers[-1].name
    return lambda inputs: {name: np.asarray(model.predict(inputs[0], verbose=0))}


def torch_answer(inputs: Inputs) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        return {"output-0": networks.linear()(torch.from_numpy(np.ascontiguousarray(inputs[0]))).numpy()}


def program(folder: Path) -> Plain:
    networks.program(folder)
    return torch_answer


def script(folder: Path) -> Plain:
    networks.script(folder)
    return torch_answer


CUSTOM = """
import numpy as np

class Model:
    inputs = [{"name": "x", "datatype": "FP64", "shape": [-1]}, {"name": "name", "datatype": "BYTES", "shape": [-1]}]
    outputs = [{"name": "root", "datatype": "FP64", "shape": [-1]}, {"name": "greeting", "datatype": "BYTES", "shape": [-1]}]

    def predict(self, inputs):
        names = [name.decode() for name in inputs["name"]]
        return {"root": np.sqrt(np.abs(inputs["x"])), "greeting": [f"Hello {name}!" for name in names]}
"""


def concurrent(folder: Path) -> Plain:
    return custom(folder, CUSTOM.replace("def predict", "async def predict"))


def custom(folder: Path, source: str = CUSTOM) -> Plain:
    (folder / "model.py").write_text(source)
    return lambda inputs: {
        "root": np.sqrt(np.abs(inputs[0])),
        "greeting": [f"Hello {name.decode()}!" for name in inputs[1]],
    }


TRUSTED = {"trusted": True}
CASES = {
    "onnx": Case(onnx, numbers(), 1e-5, 1e-6),
    "onnx, whole numbers": Case(simple, pairs(), 0, 0),
    "keras": Case(keras, numbers(), 1e-5, 1e-6, slow=True),
    "torch.export": Case(program, numbers(), 1e-5, 1e-5, slow=True),
    "torchscript": Case(script, numbers(), 1e-5, 1e-5),
    "custom": Case(custom, named(), 0, 0, compiled=False, served=TRUSTED),
    "custom, asynchronous": Case(concurrent, named(), 0, 0, compiled=False, served=TRUSTED),
}


@pytest.fixture(scope="module", params=parameters(CASES))
def ways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    with served(CASES[request.param], tmp_path_factory.mktemp("agreement")) as found:
        yield found


@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_way_of_asking_gives_the_librarys_answer(ways: Ways, data: st.DataObject) -> None:
    check(ways, data.draw(ways.case.rows))
