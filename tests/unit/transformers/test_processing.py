"""Pre- and post-processing on arrays, without a model."""

import subprocess
import sys

import numpy as np
import pytest

from mlaas.runtimes.transformers.processing import answers, arrays, classification, entities, language
from mlaas.runtimes.transformers.processing.embeddings import Pooling


def test_it_needs_no_framework() -> None:
    names = "arrays, answers, classification, embeddings, entities, language"
    code = (
        f"import sys; from mlaas.runtimes.transformers.processing import {names}; "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_pad_and_mask() -> None:
    rows = [np.array([1, 2, 3]), np.array([4])]
    assert arrays.pad(rows, 9, multiple=4).tolist() == [[1, 2, 3, 9], [4, 9, 9, 9]]
    assert arrays.pad(rows, 9, left=True).tolist() == [[1, 2, 3], [9, 9, 4]]
    assert arrays.mask(np.array([3, 1]), 4).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert arrays.mask(np.array([3, 1]), 3, left=True).tolist() == [[1, 1, 1], [0, 0, 1]]


def test_report_agrees_with_sklearn() -> None:
    from sklearn.metrics import confusion_matrix, f1_score

    draw = np.random.default_rng(0)
    truth, predicted = draw.integers(0, 4, 200), draw.integers(0, 4, 200)
    found = classification.report(truth, predicted, list("abcd"))
    assert found["f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found["confusion_matrix"]["matrix"] == confusion_matrix(truth, predicted).tolist()
    assert found["per_class"]["a"]["support"] == int((truth == 0).sum())


def test_classify_orders_by_probability() -> None:
    (found,) = classification.classify(np.array([[0.0, 2.0, 1.0]]), ["x", "y", "z"])
    assert found["label"] == "y"
    assert list(found["scores"]) == ["y", "z", "x"]
    assert found["score"] == pytest.approx(0.665241, abs=1e-6)


def test_entities_join_pieces_and_words() -> None:
    labels = ["O", "B-PER", "I-PER", "B-LOC"]
    text = "Enrico Fermi in Roma"
    offsets = [(0, 0), (0, 3), (3, 6), (7, 12), (13, 15), (16, 20), (0, 0)]
    words = [None, 0, 0, 1, 2, 3, None]
    logits = np.full((7, 4), -9.0)
    for place, label in enumerate([0, 1, 0, 2, 0, 3, 0]):  # the second piece of a word does not count
        logits[place, label] = 9.0
    found = entities.entities(text, logits, offsets, words, labels)
    assert [(e["label"], e["text"], e["start"], e["end"]) for e in found] == [
        ("PER", "Enrico Fermi", 0, 12),
        ("LOC", "Roma", 16, 20),
    ]
    assert entities.align(words, [5, 6, 7, 8]) == [-100, 5, -100, 6, 7, 8, -100]


def test_answers_have_squads_measures() -> None:
    assert answers.exact_match("The Eiffel-Tower!", ["eiffeltower"]) == 1
    assert answers.f1("in Paris France", ["Paris"]) == pytest.approx(0.5)
    assert answers.f1("", []) == 1


def test_the_best_span_is_inside_the_context() -> None:
    start, end = np.zeros(6), np.zeros(6)
    start[1], start[4], end[2], end[5] = 9, 5, 9, 5  # the highest is in the question
    context = np.array([False, False, False, True, True, True])
    offsets = np.array([(0, 0), (0, 1), (1, 2), (0, 3), (4, 8), (9, 12)])
    best = answers.best([answers.spans(start, end, offsets, context)], "abc defg hij")
    assert (best["answer"], best["start"], best["end"]) == ("defg hij", 4, 12)


def test_a_place_outside_the_window_is_none() -> None:
    offsets, own = [(0, 0), (5, 8), (9, 12)], [False, True, True]
    assert answers.place(offsets, own, 9, 12) == (2, 2)
    assert answers.place(offsets, own, 0, 3) == (0, 0)


def test_masking_takes_the_share_and_spares_what_may_not_be_masked() -> None:
    ids = np.arange(20_000).reshape(100, 200)
    maskable = np.ones(ids.shape, dtype=bool)
    maskable[:, 0] = False
    changed, labels = language.mask_tokens(ids, maskable, 0.1, 7, 30_000, np.random.default_rng(0))
    chosen = labels != language.IGNORED
    assert chosen.mean() == pytest.approx(0.1, abs=0.01)
    assert not chosen[:, 0].any()
    assert (changed[chosen] == 7).mean() == pytest.approx(0.8, abs=0.03)
    assert (changed[~chosen] == ids[~chosen]).all()
    one = language.mask_tokens(ids[:1, :2], maskable[:1, :2], 1e-9, 7, 30_000, np.random.default_rng(0))[1]
    assert (one != language.IGNORED).sum() == 1


def test_windows_lose_no_token() -> None:
    pieces = language.windows(list(range(25)), 10)
    assert [x for piece in pieces for x in piece] == list(range(25))
    assert max(map(len, pieces)) <= 10
    assert min(map(len, pieces)) >= 8


def test_pooling_modes() -> None:
    states = np.array([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]])
    mask = np.array([[1, 1, 0]])
    assert Pooling(("mean",), False).apply(states, mask).tolist() == [[2, 4]]
    assert Pooling(("cls", "max"), False).apply(states, mask).tolist() == [[1, 2, 3, 6]]
    assert Pooling(("lasttoken",), False).apply(states, mask).tolist() == [[3, 6]]
    np.testing.assert_allclose(Pooling().apply(states, mask), [[0.4472136, 0.8944272]], rtol=1e-6)
