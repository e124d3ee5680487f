"""A platform with three models that tell themselves apart, for all tests of services."""

from collections.abc import Iterator

import pytest
from tests.platform import Platform

from mlaas.client import Client


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    import numpy as np
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    made = Platform(tmp_path_factory.mktemp("service"), MLAAS_WARM="0", MLAAS_DOMAIN="serve.example.org")
    rows, labels = load_iris(return_X_y=True)
    for name, shift in (("one", 0), ("two", 10), ("three", 20)):
        (made.files / name).mkdir()
        model = LogisticRegression(max_iter=500).fit(rows, np.asarray(labels) + shift)
        skops.io.dump(model, made.files / name / "model.skops")
    (made.files / "empty").mkdir()
    (made.files / "empty" / "notes.md").write_text("no model here")
    with made:
        yield made


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with platform.client() as client:
        yield client
