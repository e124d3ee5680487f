import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.affiliations.model import base_model
from tests.acceptance.readme.reader import Reader
from tests.platform import REPOSITORY, Platform


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout after `make setup`; the commands of this Python's environment are its `.venv`."""
    folder = tmp_path_factory.mktemp("readme") / "files"
    folder.mkdir()
    shutil.copytree(REPOSITORY / "examples", folder / "examples")
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    return folder


@pytest.fixture(scope="session")
def platform(checkout: Path) -> Iterator[Platform]:
    # In a checkout the encoder of `make setup` lies below the folder where the platform is started.
    roots = f"{checkout}:{base_model().parent}"
    with Platform(checkout.parent, MLAAS_WARM="0", MLAAS_LOCAL_ROOTS=roots) as running:
        yield running


@pytest.fixture(scope="session")
def beside(platform: Platform, checkout: Path) -> Reader:
    """Who reads the page beside a running platform."""
    ports = {8000: platform.inference_port, 8001: platform.grpc_port, 8080: platform.port}
    return Reader(checkout, ports, MLAAS_DATA=str(platform.data))
