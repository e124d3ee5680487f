"""Text encoders in 8 bits: only where rows of the user's say that they stay as good, else in float, with the reason."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.integration.modelserver.formats.test_transformers import ask, bert, column, opened, texts
from tests.integration.transformers.conftest import minilm, tiny_bert

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.cache import Cache
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor
from mlaas.modelserver.standalone import Arguments, table
from mlaas.modelserver.table import Deployment, Int8

__all__ = ["minilm", "tiny_bert"]
WORDS = ["the", "detector", "measures", "muons", "and", "photons", "of", "many", "GeV", "in", "a", "magnetic", "field"]
ROWS = [" ".join(np.random.default_rng(i).choice(WORDS, 8)) for i in range(120)]


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(Cache(tmp_path / "cache"))


@pytest.fixture(scope="module")
def classifier(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sure of its labels: the weights are large."""
    folder = tmp_path_factory.mktemp("int8") / "model"
    return bert(tiny_bert, folder, "BertForSequenceClassification", num_labels=3, initializer_range=0.5)


@pytest.fixture(scope="module")
def labels(classifier: Path) -> list[str]:
    return [label.decode() for label in opened(classifier).predict([texts(*ROWS)], ["label"])[0]]


def lines(file: Path, **columns: Any) -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


async def load(loading: Loading, folder: Path, rows: Path, max_drop: float = 0.01) -> Predictor:
    asked = Int8(source=str(rows), max_drop=max_drop)
    return await loading.load(Deployment(revision="a", source=str(folder), int8=asked))


@pytest.mark.slow
async def test_the_accuracy_on_labelled_rows_decides_and_is_kept(
    loading: Loading, classifier: Path, labels: list[str], tmp_path: Path
) -> None:
    rows = lines(tmp_path / "rows.jsonl", text=ROWS, label=labels)
    served = await load(loading, classifier, rows, 1.0)
    said = served.status()["int8"]
    assert (said["served"], said["rows"], said["max_drop"]) == (True, 120, 1.0)
    assert said["measure"] == "share of right answers"
    assert said["float"] == 1.0
    drop = 1.0 - said["int8"]
    assert 0 < drop < 1  # random weights: something is lost
    answers = column(await ask(served, texts(*ROWS)), "label")
    assert np.mean(np.array(answers) == np.array(labels)) == pytest.approx(said["int8"])

    refused = await load(loading, classifier, rows, drop / 2)
    told = refused.status()
    assert told["compiled"] is True
    assert told["int8"] == {
        "served": False,
        "reason": f"share of right answers: int8 loses {drop:.4g} on 120 rows, and {drop / 2:g} is allowed",
        **{key: said[key] for key in ("rows", "measure", "float", "int8")},
        "max_drop": drop / 2,
    }
    assert column(await ask(refused, texts(*ROWS)), "label") == labels
    assert served.memory() < refused.memory()


@pytest.mark.slow
async def test_other_rows_are_judged_anew(
    loading: Loading, classifier: Path, labels: list[str], tmp_path: Path
) -> None:
    rows = lines(tmp_path / "rows.jsonl", text=ROWS, label=labels)
    first = (await load(loading, classifier, rows, 1.0)).status()["int8"]
    lines(rows, text=ROWS, label=["nothing"] * len(ROWS))
    second = (await load(loading, classifier, rows, 1.0)).status()["int8"]
    assert (first["float"], second["float"]) == (1.0, 0.0)


async def test_without_labels_the_float_model_is_what_it_has_to_agree_with(
    loading: Loading, classifier: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as opening:
        writer = csv.writer(opening)
        writer.writerows([["id", "text"], *([str(i), row] for i, row in enumerate(ROWS))])
    said = (await load(loading, classifier, file, 1.0)).status()["int8"]
    assert (said["served"], said["measure"]) == (True, "share of equal answers")
    assert 0.3 < said["agreement"] < 1


async def test_vectors_are_judged_by_their_direction(loading: Loading, tiny_bert: Path, tmp_path: Path) -> None:
    rows = lines(tmp_path / "rows.jsonl", text=ROWS)
    served = await load(loading, tiny_bert, rows, 0.05)
    said = served.status()["int8"]
    assert (said["served"], said["measure"]) == (True, "mean cosine")
    theirs = opened(tiny_bert).predict([texts(*ROWS)], ["embedding"])[0]
    mine = (await ask(served, texts(*ROWS))).outputs[0].array
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    cosine = float(((mine * theirs).sum(axis=1) / lengths).mean())
    assert cosine == pytest.approx(said["agreement"], abs=1e-4)
    assert cosine < 1 - 1e-6


async def test_scores_are_judged_by_what_they_explain(loading: Loading, tiny_bert: Path, tmp_path: Path) -> None:
    folder = bert(tiny_bert, tmp_path / "model", "BertForSequenceClassification", num_labels=1, initializer_range=0.5)
    rows = lines(tmp_path / "rows.jsonl", text=ROWS, label=ROWS)
    said = (await load(loading, folder, rows, 1.0)).status()["int8"]
    assert said["measure"] == "R2 of the scores"
    assert 0 < said["agreement"] < 1


async def test_few_rows_prove_nothing(loading: Loading, classifier: Path, labels: list[str], tmp_path: Path) -> None:
    rows = lines(tmp_path / "rows.jsonl", text=ROWS[:50], label=labels[:50])
    status = (await load(loading, classifier, rows)).status()
    assert status["int8"]["reason"] == "a drop of 0.01 does not show on 50 rows: give at least 100"
    assert status["compiled"] is True


async def test_what_is_no_text_encoder_says_so(loading: Loading, tmp_path: Path) -> None:
    folder, rows = tmp_path / "iris", lines(tmp_path / "rows.jsonl", text=ROWS)
    folder.mkdir()
    skops.io.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), folder / "model.skops")
    status = (await load(loading, folder, rows)).status()
    assert status["int8"] == {"served": False, "reason": "it is no text encoder"}
    asked = Int8(source=str(rows))
    original = await loading.load(Deployment(revision="b", source=str(folder), int8=asked, compile=False))
    assert original.status()["int8"]["reason"] == "it is not compiled: it is switched off"
    await original.close()


@pytest.mark.parametrize(
    ("content", "said"), [('{"txt": "a"}', "cannot be read"), ("{", "cannot be read"), ("", "has no rows")]
)
async def test_rows_that_cannot_be_read_are_named(
    content: str, said: str, loading: Loading, classifier: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(Invalid, match=said) as refused:
        await load(loading, classifier, tmp_path / "rows.jsonl")
    assert refused.value.field == "int8.rows"
    with pytest.raises(Invalid, match="There are no rows"):
        await load(loading, classifier, tmp_path / "absent.jsonl")


def test_the_command_line_asks_for_it(classifier: Path, tmp_path: Path) -> None:
    rows = lines(tmp_path / "rows.jsonl", text=ROWS)
    (service,) = table(Arguments([str(classifier)], int8=rows, max_drop=0.02)).services
    assert service.predictor is not None
    assert service.predictor.int8 == Int8(source=str(rows), max_drop=0.02)
    with pytest.raises(Invalid, match="There are no rows") as refused:
        table(Arguments([str(classifier)], int8=tmp_path / "absent"))
    assert refused.value.field == "int8"
