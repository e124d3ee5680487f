"""Models that take long to make, once for all tests."""

from pathlib import Path

import pytest
from tests.integration.modelserver.formats import mlflow_environment


@pytest.fixture(scope="session")
def mlflow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each flavour, by the names of `mlflow_models.py`."""
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow_environment.save(
        folder, "sklearn", "sklearn_pickle", "sklearn_columns", "xgboost", "lightgbm", "onnx", "pytorch",
        "pytorch_pickle", "keras", "python_function",
    )  # fmt: skip
    return folder
