"""What is named on a hub: refused at once where neither the network nor a hub is needed to know."""

import pytest
from tests.platform import Platform

from .conftest import prediction, training

pytestmark = pytest.mark.slow
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """Offline, with an empty cache; the address of its hub would never answer."""
    folder = tmp_path_factory.mktemp("platform")
    hub = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    with Platform(folder, MLAAS_WARM="0", **hub) as running:
        yield running


def on_hub(path):
    return {"path": path, "storage_type": "hugging_face_hub"}


@pytest.mark.parametrize("path", ["a/b/c", "org name/x", "../x", "org/na..me", "org/name@../x", "org/name@", "x" * 300])
def test_a_name_that_is_no_repository(asked, files, path):
    if path.endswith("@"):
        path += "a b"
    for body, field in (
        (prediction(model={**on_hub(path), "objective": "text-classification"}), "model.path"),
        (prediction(tokenizer=on_hub(path)), "tokenizer.path"),
        ({**training(), "dataset": on_hub(path)}, "dataset.path"),
    ):
        problem = asked.refused(body)
        assert problem["errors"][0]["field"] == field, problem
        assert "is no repository of a hub" in problem["detail"]
        assert "org/name" in problem["hint"]


def test_offline_what_is_not_in_the_cache(asked, files):
    for body, field in (
        (prediction(model={**on_hub("org/absent"), "objective": "text-classification"}), "model.path"),
        ({**training(), "dataset": on_hub(f"org/absent@{COMMIT}")}, "dataset.path"),
    ):
        problem = asked.refused(body)
        assert problem["errors"][0]["field"] == field, problem
        assert "HF_HUB_OFFLINE is set" in problem["detail"]
        assert "unset HF_HUB_OFFLINE" in problem["hint"]
