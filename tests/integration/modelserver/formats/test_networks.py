"""Keras and PyTorch models: what they say they take and give, what is refused, and in which words."""

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.modelserver.formats import networks
from tests.integration.modelserver.formats.networks import dense, keras, linear

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compile import Order, compile_model
from mlaas.modelserver.compiled import read
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.base import Opened, Original
from mlaas.modelserver.predictor import TensorSpec

# What the frameworks say of NumPy and of each other.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
ROWS = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)


def opened(folder: Path, **how: Any) -> Original:
    found = registry.open_model(registry.detect(folder), Opened(folder, **how))
    assert isinstance(found, Original)
    return found


def compiled(folder: Path, target: Path, **how: Any) -> dict[str, Any]:
    """The document of a compiled model, which agreed with its original."""
    target.mkdir()
    order = Order(source=str(folder), target=str(target), format=registry.detect(folder).name, **how)
    document = compile_model(order)
    assert document["kind"] == "onnx", document.get("reason")
    return document


def specs(*given: tuple[str, str, list[int]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in given)


@pytest.mark.parametrize("write", [networks.keras_model, networks.keras_hdf5])
def test_a_keras_model_says_what_it_takes_and_answers_alike_compiled(write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder)
    original = opened(folder)
    (taken,), (given,) = original.signature.inputs, original.signature.outputs
    assert (taken.datatype, taken.shape, given.datatype, given.shape) == ("FP32", (-1, 4), "FP32", (-1, 3))
    assert original.signature.batched
    document = compiled(folder, tmp_path / "compiled")
    assert document["parity"]["rows"] == 64
    answer = read.answer_of(document, tmp_path / "compiled", folder)
    (mine,), (theirs,) = answer([ROWS], [given.name]), original.predict([ROWS], [given.name])
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    np.testing.assert_allclose(theirs, dense_answer(folder), rtol=1e-5)


def dense_answer(folder: Path) -> Any:
    (file,) = folder.iterdir()
    return np.asarray(keras().saving.load_model(file, compile=False).predict(ROWS, verbose=0))


def test_a_keras_model_of_several_inputs_and_outputs_has_their_names(tmp_path: Path) -> None:
    layers = keras().layers
    left = keras().Input((3,), name="left")
    right = keras().Input((2,), dtype="int32", name="right")
    joined = layers.Concatenate()([left, layers.Flatten()(layers.Embedding(5, 2)(right))])
    outputs = {"score": layers.Dense(1, name="a")(joined), "vector": layers.Dense(4, name="b")(joined)}
    keras().Model({"left": left, "right": right}, outputs).save(tmp_path / "model.keras")
    original = opened(tmp_path)
    assert original.signature.inputs == specs(("left", "FP32", [-1, 3]), ("right", "INT32", [-1, 2]))
    assert original.signature.outputs == specs(("score", "FP32", [-1, 1]), ("vector", "FP32", [-1, 4]))
    compiled(tmp_path, tmp_path / "compiled")


def test_the_folder_names_and_flattens_what_a_model_gives(tmp_path: Path) -> None:
    keras().Sequential([keras().Input((2,)), keras().layers.Dense(1, activation="sigmoid")]).save(
        tmp_path / "model.keras"
    )
    said = {
        "inputs": [{"name": "energies", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "probability", "datatype": "FP32", "shape": [-1]}],
        "features": ["e1", "e2"],
    }
    (tmp_path / "signature.json").write_text(json.dumps(said))
    original = opened(tmp_path)
    assert original.signature.inputs == specs(("energies", "FP32", [-1, 2]))
    assert original.signature.outputs == specs(("probability", "FP32", [-1]))
    assert original.signature.features == ("e1", "e2")
    document = compiled(tmp_path, tmp_path / "compiled")
    (mine,) = read.answer_of(document, tmp_path / "compiled", tmp_path)([ROWS[:, :2]], ["probability"])
    assert mine.shape == (5,)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_python_code_in_a_keras_file_is_run_only_when_it_is_trusted(suffix: str, tmp_path: Path) -> None:
    lambda_layer = keras().layers.Lambda(lambda x: x * 2, output_shape=(2,))
    keras().Sequential([keras().Input((2,)), lambda_layer]).save(tmp_path / f"model.{suffix}")
    with pytest.raises(Invalid, match="code of its maker's") as refused:
        opened(tmp_path)
    assert refused.value.field == "trusted"
    original = opened(tmp_path, trusted=True)
    (doubled,) = original.predict([ROWS[:, :2]], [original.signature.outputs[0].name])
    np.testing.assert_allclose(doubled, ROWS[:, :2] * 2)


def test_a_keras_model_that_refuses_rows_says_why(tmp_path: Path) -> None:
    dense().save(tmp_path / "model.keras")
    original = opened(tmp_path)
    with pytest.raises(Invalid, match="refuses the rows"):
        original.predict([ROWS[:, :3]], [original.signature.outputs[0].name])


def test_what_is_no_keras_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"nothing")
    with pytest.raises(Invalid, match="neither a Keras archive nor HDF5"):
        opened(tmp_path)
    (tmp_path / "model.keras").unlink()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(Invalid, match="cannot be read by Keras") as refused:
        opened(tmp_path)
    assert "model.save('model.keras')" in str(refused.value.hint)


def test_a_program_says_what_it_takes_and_answers_alike_compiled(tmp_path: Path) -> None:
    networks.program(tmp_path)
    original = opened(tmp_path)
    assert original.signature.inputs == specs(("input", "FP32", [-1, 4]))
    assert original.signature.outputs == specs(("output-0", "FP32", [-1, 3]))
    document = compiled(tmp_path, tmp_path / "compiled")
    (mine,) = read.answer_of(document, tmp_path / "compiled", tmp_path)([ROWS], ["output-0"])
    import torch

    wanted = linear()(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(original.predict([ROWS], ["output-0"])[0], wanted, rtol=1e-6)


def test_a_program_of_named_arguments_and_outputs(tmp_path: Path) -> None:
    import torch

    class Two(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def forward(self, x: Any, *, weight: Any) -> Any:
            return {"product": x * weight, "sum": x + weight}

    rows = torch.export.Dim("rows")
    made = torch.export.export(
        Two(), (torch.ones(2, 3),), {"weight": torch.ones(2, 1)}, dynamic_shapes={"x": {0: rows}, "weight": {0: rows}}
    )
    torch.export.save(made, tmp_path / "model.pt2")
    original = opened(tmp_path)
    assert [spec.name for spec in original.signature.inputs] == ["x", "weight"]
    assert [spec.name for spec in original.signature.outputs] == ["product", "sum"]
    weights = np.full((5, 1), 3, np.float32)
    (total,) = original.predict([ROWS[:, :3], weights], ["sum"])
    np.testing.assert_allclose(total, ROWS[:, :3] + 3)
    document = compiled(tmp_path, tmp_path / "compiled")
    (product,) = read.answer_of(document, tmp_path / "compiled", tmp_path)([ROWS[:, :3], weights], ["product"])
    np.testing.assert_allclose(product, ROWS[:, :3] * 3, rtol=1e-6)


def test_a_program_saved_for_one_number_of_rows_says_so(tmp_path: Path) -> None:
    import torch

    torch.export.save(torch.export.export(linear(), (torch.zeros(2, 4),)), tmp_path / "model.pt2")
    original = opened(tmp_path)
    assert original.signature.inputs[0].shape == (2, 4)
    assert not original.signature.batched
    document = compiled(tmp_path, tmp_path / "compiled")
    assert "2 rows" in document["warnings"][0]


def with_document(folder: Path, change: Any) -> None:
    """The program of `folder` with its graph's description changed."""
    file = folder / "model.pt2"
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = [name for name in parts if name.endswith("models/model.json")]
    document = json.loads(parts[name])
    change(document)
    parts[name] = json.dumps(document).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def call_system(document: Any) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def compute_a_size(document: Any) -> None:
    text = json.dumps(document)
    evil = re.sub(r"Symbol\('s\d+'", "__import__('os').getcwd('x'", text)
    assert evil != text
    document.clear()
    document.update(json.loads(evil))


@pytest.mark.parametrize("change", [call_system, compute_a_size])
def test_a_program_that_calls_more_than_operators_is_not_opened(change: Any, tmp_path: Path) -> None:
    networks.program(tmp_path)
    with_document(tmp_path, change)
    with pytest.raises(Invalid, match="may be code of its maker's") as refused:
        opened(tmp_path)
    assert refused.value.field == "trusted"


def test_torchscript_is_compiled_under_the_names_that_its_signature_gives(tmp_path: Path) -> None:
    networks.script(tmp_path)
    original = opened(tmp_path)
    assert original.signature.inputs == specs(("x", "FP32", [-1, 4]))
    assert original.signature.outputs == specs(("output-0", "FP32", [-1, 3]))
    document = compiled(tmp_path, tmp_path / "compiled")
    (mine,) = read.answer_of(document, tmp_path / "compiled", tmp_path)([ROWS], ["output-0"])
    np.testing.assert_allclose(mine, original.predict([ROWS], ["output-0"])[0], rtol=1e-5, atol=1e-6)


def test_torchscript_without_a_signature_says_what_to_write_or_takes_the_example(tmp_path: Path) -> None:
    networks.script(tmp_path)
    (tmp_path / "signature.json").unlink()
    with pytest.raises(Invalid, match="does not say the shape") as refused:
        opened(tmp_path)
    assert '"inputs": [{"name": "input"' in str(refused.value.hint)
    (tmp_path / "input_example.json").write_text("[[1, 2, 3, 4]]")
    assert opened(tmp_path).signature.inputs == specs(("input", "FP32", [-1, 4]))


def test_a_signature_that_the_module_does_not_take_is_refused(tmp_path: Path) -> None:
    networks.script(tmp_path)
    said = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 7]}]}
    (tmp_path / "signature.json").write_text(json.dumps(said))
    with pytest.raises(Invalid, match="does not take what its signature says"):
        opened(tmp_path)


def test_a_pickled_module_is_opened_only_when_it_is_trusted(tmp_path: Path) -> None:
    import torch

    torch.save(linear(), tmp_path / "model.pt")
    (tmp_path / "input_example.json").write_text("[[1, 2, 3, 4]]")
    with pytest.raises(Invalid, match="is a pickle") as refused:
        opened(tmp_path)
    assert "torch.export.save" in str(refused.value.hint)
    assert opened(tmp_path, trusted=True).signature.outputs == specs(("output-0", "FP32", [-1, 3]))


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    import torch

    torch.save(linear().state_dict(), tmp_path / "model.pt")
    with pytest.raises(Invalid, match="only weights"):
        opened(tmp_path, trusted=True)


def test_a_module_of_a_class_that_is_not_here_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(pickle.dumps(linear()).replace(b"torch.nn", b"absent.n"))
    with pytest.raises(Invalid):
        opened(tmp_path, trusted=True)


def test_a_file_that_is_none_of_torchs(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"hello")
    with pytest.raises(Invalid, match="no file of torch"):
        opened(tmp_path)
