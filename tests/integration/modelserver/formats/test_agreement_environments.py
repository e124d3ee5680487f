"""However a model is asked whose library lives in an environment of its own, it says what that library says there (see
`test_agreement.py`): TensorFlow's SavedModels and MLflow's folders, by MLflow's own `pyfunc`."""

import json
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.integration.modelserver.formats import mlflow_environment, tensorflow_environment
from tests.integration.modelserver.formats.agreement import Case, Inputs, Plain, Ways, check, served
from tests.integration.modelserver.formats.test_mlflow import COLUMNS
from tests.integration.modelserver.formats.test_transformers import texts

from mlaas.modelserver.formats.savedmodel import REQUIREMENTS
from mlaas.modelserver.worker.environments import build

pytestmark = [
    pytest.mark.slow,
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")),
]
SCRIPT = Path(__file__).parent / "library.py"


class Library:
    """The script of `library.py` with one model."""

    def __init__(self, requirements: list[str], kind: str, folder: Path, packages: bool) -> None:
        """`packages`: those of this Python can be imported too."""
        python = build(requirements, tensorflow_environment.KEPT)
        environment = {"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "torch"}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder.parent)}
        if packages:
            environment["PYTHONPATH"] = sysconfig.get_paths()["purelib"]
        self._log = (folder.parent / "library.log").open("w+")
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", str(SCRIPT), kind, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"inputs": inputs}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, Path(self._log.name).read_text()
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        self._process.communicate()
        self._log.close()


def numbers(low: float = -100, high: float = 100) -> st.SearchStrategy[Inputs]:
    elements = st.floats(low, high, width=32)
    return arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=elements).map(lambda rows: [rows])


@st.composite
def mixed(draw: st.DrawFn) -> Inputs:
    """Columns of the `pyfunc` of `mlflow_models.py`: a float, a whole number, a text."""
    cells = st.tuples(st.floats(-1e6, 1e6), st.integers(-1000, 1000), st.text(max_size=9))
    rows = draw(st.lists(cells, min_size=1, max_size=6))
    floats, whole, words = zip(*rows, strict=True)
    return [np.array(floats)[:, None], np.array(whole)[:, None], texts(*words).reshape(-1, 1)]


def savedmodel(folder: Path, stack: ExitStack) -> Plain:
    tensorflow_environment.save(tensorflow_environment.DENSE, folder)
    library = Library(list(REQUIREMENTS), "tensorflow", folder, packages=False)
    stack.callback(library.close)
    names = ["keras_tensor"]

    def answer(inputs: Inputs) -> dict[str, Any]:
        return {name: np.array(rows, np.float32) for name, rows in library({names[0]: inputs[0].tolist()}).items()}

    return answer


def mlflow(flavour: str, output: str, *columns: str) -> Callable[[Path, ExitStack], Plain]:
    """A model of a flavour; `output` is the name that we give to what its pyfunc gives without one."""

    def write(folder: Path, stack: ExitStack) -> Plain:
        folder.rmdir()
        mlflow_environment.save(folder.parent, flavour)
        (folder.parent / flavour).rename(folder)
        library = Library(mlflow_environment.REQUIREMENTS, "mlflow", folder, packages=True)
        stack.callback(library.close)

        def answer(inputs: Inputs) -> dict[str, Any]:
            if len(inputs) > 1:
                given = {name: _listed(array[:, 0]) for name, array in zip(columns, inputs, strict=True)}
            elif columns:
                given = {name: column.tolist() for name, column in zip(columns, inputs[0].T, strict=True)}
            else:
                given = {"": inputs[0].tolist()}
            return {name or output: rows for name, rows in library(given).items()}

        return answer

    return write


def _listed(array: Any) -> list[Any]:
    return [item.decode() if isinstance(item, bytes) else item for item in array.tolist()]


WRITERS: dict[str, Callable[[Path, ExitStack], Plain]] = {
    "savedmodel": savedmodel,
    "mlflow, sklearn": mlflow("sklearn", "predict", *COLUMNS),
    "mlflow, xgboost": mlflow("xgboost", "predict", *COLUMNS),
    "mlflow, pytorch": mlflow("pytorch", "output-0"),
    "mlflow, python_function": mlflow("python_function", "", "a", "b", "c"),
}


def case(name: str, stack: ExitStack) -> Case:
    def write(folder: Path) -> Plain:
        return WRITERS[name](folder, stack)

    cache = tensorflow_environment.cache
    if name == "savedmodel":
        return Case(write, numbers(), 1e-5, 1e-6, served={"environment": list(REQUIREMENTS)}, cache=cache)
    if name == "mlflow, python_function":
        served = {"trusted": True, "environment": [*mlflow_environment.REQUIREMENTS, "cloudpickle"]}
        return Case(write, mixed(), 1e-12, 1e-12, compiled=False, served=served, cache=cache)
    if name == "mlflow, pytorch":
        return Case(write, numbers(), 1e-5, 1e-5, cache=cache)
    return Case(write, numbers(-2, 10), 1e-9, 1e-9, cache=cache)


@pytest.fixture(scope="module", params=list(WRITERS))
def ways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    with (
        ExitStack() as stack,
        served(case(request.param, stack), tmp_path_factory.mktemp("agreement")) as found,
    ):
        yield found


@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_way_of_asking_gives_the_librarys_answer(ways: Ways, data: st.DataObject) -> None:
    check(ways, data.draw(ways.case.rows))
