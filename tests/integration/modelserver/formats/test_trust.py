"""Models whose opening runs what their maker wrote: refused with the fix, and confined where they are trusted by name."""

import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlaas.kernel import landlock
from mlaas.kernel.errors import Invalid
from mlaas.modelserver.cache import Cache
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor


class Greedy:
    """Unpickled, it copies a file to a place that anybody may read, and takes a secret of the environment along."""

    def __init__(self, secret: Path, target: Path) -> None:
        self.secret = secret
        self.target = target

    def __reduce__(self) -> Any:
        code = f"open({str(self.target)!r}, 'w').write(open({str(self.secret)!r}).read())"
        return exec, (code,)


class Nosy:
    """Unpickled, it writes the names of its environment into its estimator."""

    def __reduce__(self) -> Any:
        return eval, (
            "__import__('sklearn.dummy').dummy.DummyClassifier(strategy='constant',"
            " constant=','.join(sorted(__import__('os').environ))).fit([[0.0]], [','.join(sorted(__import__('os').environ))])",
        )


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(Cache(tmp_path / "cache"))


def save(folder: Path, file: str, model: Any) -> str:
    folder.mkdir()
    if file.endswith(".joblib"):
        joblib.dump(model, folder / file, compress=3)
    else:
        (folder / file).write_bytes(pickle.dumps(model))
    return str(folder)


@pytest.mark.parametrize("file", ["model.joblib", "model.pkl", "iris.pickle"])
async def test_a_pickle_is_refused_until_it_is_trusted_and_then_compiled(
    loading: Loading, tmp_path: Path, file: str
) -> None:
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    source = save(tmp_path / "iris", file, model)
    with pytest.raises(Invalid, match="is a pickle") as refused:
        await loading.load(Deployment(revision="a", source=source))
    assert refused.value.field == "trusted"
    assert "skops.io.dump" in str(refused.value.hint)
    with pytest.raises(Invalid, match="is a pickle"):
        await loading.load(Deployment(revision="a", source=source, compile=False))
    predictor = await loading.load(Deployment(revision="b", source=source, trusted=True))
    assert predictor.status()["compiled"] is True
    answer = predictor.infer(Request([Tensor("input-0", rows)], ["predict", "probabilities"]))
    assert isinstance(answer, Response)
    assert answer.outputs[0].array.tolist() == model.predict(rows).tolist()
    np.testing.assert_allclose(answer.outputs[1].array, model.predict_proba(rows), rtol=1e-9)


@pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
async def test_a_trusted_pickle_reads_no_file_but_its_own_and_writes_none(loading: Loading, tmp_path: Path) -> None:
    secret = tmp_path / "admin-token"
    secret.write_text("geheim")
    stolen = tmp_path / "stolen"
    source = save(tmp_path / "model", "model.pkl", Greedy(secret, stolen))
    with pytest.raises(Invalid, match="PermissionError"):
        await loading.load(Deployment(revision="a", source=source, trusted=True))
    assert not stolen.exists()


async def test_a_trusted_pickle_sees_no_credentials(
    loading: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("MLAAS_TOKEN", "geheim")
    source = save(tmp_path / "model", "model.pkl", Nosy())
    for compiled in (True, False):
        predictor = await loading.load(Deployment(revision="a", source=source, trusted=True, compile=compiled))
        given = predictor.infer(Request([Tensor("input-0", np.zeros((1, 1)))], ["predict"]))
        answer = given if isinstance(given, Response) else await given
        seen = answer.outputs[0].array[0].decode().split(",")
        await predictor.close()
        assert "PATH" in seen
        assert "AWS_SECRET_ACCESS_KEY" in os.environ
        assert not {"AWS_SECRET_ACCESS_KEY", "MLAAS_TOKEN"} & set(seen)


async def test_a_custom_predictor_is_not_imported_before_it_is_trusted(loading: Loading, tmp_path: Path) -> None:
    folder, mark = tmp_path / "model", tmp_path / "mark"
    folder.mkdir()
    (folder / "model.py").write_text(f"open({str(mark)!r}, 'w')\nclass Model:\n    def predict(self, inputs): ...\n")
    for compiled in (True, False):
        with pytest.raises(Invalid, match="runs code that it brings") as refused:
            await loading.load(Deployment(revision="a", source=str(folder), compile=compiled))
        assert refused.value.field == "trusted"
        assert not mark.exists()
