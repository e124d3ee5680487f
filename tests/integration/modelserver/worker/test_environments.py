"""Environments built without a network: NumPy, msgspec, PyYAML and a tiny package as wheels in a folder."""

import asyncio
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import Request
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker.environments import build, key
from mlaas.modelserver.worker.start import start


def wheel_of(name: str, folder: Path) -> Path:
    """The wheel that an installed distribution came from, put together again."""
    found = distribution(name)
    tags = [line.split(": ")[1] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag")]
    path = folder / f"{name}-{found.version}-{tags[0]}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files or []:
            if (
                ".." not in file.parts
                and "__pycache__" not in file.parts
                and file.name not in ("INSTALLER", "REQUESTED")
            ):
                archive.write(file.locate(), str(file))
    return path


def tiny_wheel(folder: Path, version: str = "1.0") -> Path:
    path = folder / f"tinymodel-{version}-py3-none-any.whl"
    info = f"tinymodel-{version}.dist-info"
    files = {
        "tinymodel.py": "FACTOR = 3\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinymodel\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel_of("numpy", folder)
    wheel_of("msgspec", folder)
    wheel_of("pyyaml", folder)
    tiny_wheel(folder)
    return folder


@pytest.fixture(autouse=True)
def offline(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))


async def test_a_model_answers_from_an_environment_of_its_own(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.py").write_text("""
import sys
import tinymodel

class Model:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1]}, {"name": "said", "datatype": "BYTES", "shape": [3]}]

    def predict(self, inputs):
        seen = [sys.prefix]
        for name in ("pydantic", "orjson"):
            try:
                seen.append(__import__(name).__name__)
            except ImportError:
                seen.append("absent")
        return {"y": inputs["x"] * tinymodel.FACTOR, "said": seen}
""")
    wanted = Deployment(revision="m", trusted=True, environment=["tinymodel>=1"])
    pool = await start(wanted, model, cache=tmp_path / "cache")
    try:
        for rows in (2, 100_000):
            response = await pool.infer(Request([Tensor("x", np.ones(rows, dtype=np.float32))]))
            assert (response.outputs[0].array == 3).all()
        prefix, *others = response.outputs[1].array.tolist()
        assert Path(prefix.decode()).parent == tmp_path / "cache" / "environments"
        assert others == [b"absent", b"absent"]
    finally:
        await pool.close()


async def test_it_is_built_once_also_by_two_at_once(tmp_path: Path) -> None:
    first, second = await asyncio.gather(
        *(asyncio.to_thread(build, ["tinymodel"], tmp_path), asyncio.to_thread(build, [" tinymodel"], tmp_path))
    )
    assert first == second
    stamp = (first.parent.parent / "pyvenv.cfg").stat().st_mtime_ns
    assert build(["tinymodel", "tinymodel"], tmp_path) == first
    assert (first.parent.parent / "pyvenv.cfg").stat().st_mtime_ns == stamp
    assert [path.name for path in (tmp_path / "environments").iterdir() if not path.name.startswith(".")] == [
        key(["tinymodel"])
    ]


async def test_what_cannot_be_resolved_is_said_in_uvs_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"tinymodel") as caught:
        build(["tinymodel>=2"], tmp_path)
    assert caught.value.field == "environment"
    assert not [path for path in (tmp_path / "environments").iterdir() if not path.name.endswith(".lock")]


def test_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is an option"):
        build(["--index-url=somewhere"], tmp_path)


async def test_a_package_that_is_missing_is_said_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import tinymodel\nclass Model:\n    def predict(self, inputs): ...")
    with pytest.raises(Invalid, match="needs the package 'tinymodel'") as caught:
        await start(Deployment(revision="m", trusted=True), tmp_path)
    assert "requirements" in (caught.value.hint or "")
