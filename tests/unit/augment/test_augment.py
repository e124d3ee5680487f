"""Smart typos: what a copy may and may not change."""

import os
import re
import subprocess
import sys

import numpy
import pytest

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.augment import augment
from mlaas.runtimes.augment.keyboard import NEIGHBOURS
from mlaas.runtimes.augment.words import find, fold

TEXTS = [
    "INFN Frascati Natl Labs, I-00044 Frascati, Roma",
    "Ist Nazl Fis Nucl, Sez Pisa, Largo B Pontecorvo 3, I-56127 Pisa, Italy",
    "Istituto Nazionale di Fisica Nucleare, Sezione di Lecce, Via Arnesano, 73100 Lecce, Italy",
    "Univ Siena, Dipartimento Fis, Pisa, Italy",
    "Università degli Studi Roma Tre, Dip. di Fisica, Via della Vasca Navale 84, Roma",
    "Horia Hulubei Natl Inst Nucl Phys & Engn, Bucharest, Romania",
    "Osservatorio di Lecco, Lecco, Italy",
    "INFM, UdR Genova, Genova",
]


def distance(a: str, b: str) -> int:
    """Levenshtein's."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_sizes_and_sources() -> None:
    copies, rows = augment(TEXTS, factor=20, seed=1)
    assert len(copies) == len(rows) == 19 * len(TEXTS)
    assert rows.dtype == numpy.int64
    assert numpy.bincount(rows).tolist() == [19] * len(TEXTS)
    copies, rows = augment(TEXTS, size=100, seed=1)
    assert len(copies) == len(rows) == 100 - len(TEXTS)
    assert augment(TEXTS, size=len(TEXTS))[0] == []


def test_no_copy_twice_and_none_equals_an_original_or_an_excluded_text() -> None:
    free, _ = augment(TEXTS, factor=50, seed=3)
    assert len({*free, *TEXTS}) == len(free) + len(TEXTS)
    banned = set(free[::3])
    kept, rows = augment(TEXTS, factor=50, seed=3, exclude=banned)
    assert banned.isdisjoint(kept)
    assert len(kept) == len(rows) == len(free)


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    copies, rows = augment(TEXTS, factor=10, seed=5)
    assert copies == augment(TEXTS, factor=10, seed=5)[0]
    assert copies != augment(TEXTS, factor=10, seed=6)[0]
    shuffled = TEXTS[::-1]
    again, again_rows = augment(shuffled, factor=10, seed=5)
    pairs = {(copy, TEXTS[i]) for copy, i in zip(copies, rows, strict=True)}
    assert pairs == {(copy, shuffled[i]) for copy, i in zip(again, again_rows, strict=True)}


def test_the_hash_seed_of_the_interpreter_does_not_matter() -> None:
    code = "from mlaas.runtimes.augment import augment; print(augment(['Sez Pisa, Italy', 'Univ Siena'], factor=9)[0])"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": value, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for value in ("1", "2")
    }
    assert len(answers) == 1


def test_letters_change_little_without_abbreviations() -> None:
    copies, rows = augment(TEXTS, factor=200, seed=2, abbreviate=False)
    for copy, i in zip(copies, rows, strict=True):
        before = re.sub(r"[\W\d]+", "", fold(TEXTS[i]))
        after = re.sub(r"[\W\d]+", "", fold(copy))
        edits = max(1, min(4, len(TEXTS[i]) // 14))
        assert distance(before, after) <= 2 * edits + 2, (TEXTS[i], copy)  # a swap counts 2, so may "I-" of a code


def test_numbers_never_change_and_postal_codes_go_as_a_whole() -> None:
    copies, rows = augment(TEXTS, factor=200, seed=4)
    dropped = 0
    for copy, i in zip(copies, rows, strict=True):
        before, after = re.findall(r"\d+", TEXTS[i]), re.findall(r"\d+", copy)
        extra = [n for n in after if n not in before]
        assert extra in ([], ["3"]), (TEXTS[i], copy)  # Roma Tre is also written Roma 3
        missing = [n for n in before if n not in after]
        assert all(len(n) == 5 for n in missing), (TEXTS[i], copy)
        dropped += bool(missing)
    assert dropped > 20


def test_acronyms_keep_their_letters_and_typos_make_no_other_known_word() -> None:
    copies, rows = augment(TEXTS, factor=300, seed=7, abbreviate=False)
    for copy, i in zip(copies, rows, strict=True):
        words, copied = re.findall(r"\w+", fold(TEXTS[i])), re.findall(r"\w+", fold(copy))
        for name in ("infn", "infm", "lecce", "lecco"):
            assert name in words or name not in copied, (TEXTS[i], copy)
        for name in ("infn", "infm"):
            assert name not in words or name in copied, (TEXTS[i], copy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Istituto Nazionale di Fisica Nucleare, Sezione di Pisa", "Ist Nazl Fis Nucl"),
        ("Ist Nazl Fis Nucl, Sez Pisa", "Istituto Nazionale di Fisica Nucleare"),
        ("Ist. Naz. Fis. Nucl., Sez. Pisa", "Natl Inst Nucl Phys"),
        ("Natl Inst Nucl Phys, Pisa, Italy", "Istituto Nazionale di Fisica Nucleare"),
        ("Dipartimento di Fisica, Pisa", "Dept Phys"),
        ("Sez Pisa", "Sezione Pisa"),
        ("Lab Nazl Legnaro", "Laboratori Nazionali di Legnaro"),
        ("Laboratori Nazionali del Sud", "Southern Natl Lab"),
        ("Florence University", "Firenze"),
        ("University of Padua", "Univ"),
    ],
)
def test_words_are_abbreviated_expanded_and_translated(text: str, expected: str) -> None:
    copies, _ = augment([text], factor=400, seed=1)
    assert any(expected in copy for copy in copies)


def test_a_foreign_institute_does_not_become_the_italian_one() -> None:
    copies, _ = augment(["Natl Inst Nucl Phys, Alma Ata, Kazakhstan"], factor=300, seed=1)
    assert not [copy for copy in copies if "infn" in copy.lower() or "ist naz" in copy.lower()]


def test_without_abbreviations_phrases_stay() -> None:
    copies, _ = augment(["Ist Nazl Fis Nucl"], factor=60, seed=1, abbreviate=False)
    assert not any("Istituto" in copy or "INFN" in copy for copy in copies)


def test_the_longest_phrase_wins() -> None:
    words = ["laboratori", "nazionali", "di", "frascati"]
    (phrase,) = find(words, [" ", " ", " "])
    assert (phrase.start, phrase.stop) == (0, 4)
    assert "Frascati Natl Lab" in phrase.others
    assert len(find(words, [" ", ", ", " "])) < 4  # a comma parts a phrase
    assert all(p.stop - p.start < 4 for p in find(words, [" ", ", ", " "]))


def test_every_kind_of_typo_comes() -> None:
    word = "Sezione"
    copies = {copy for seed in range(30) for copy in augment([word], size=100, seed=seed, abbreviate=False)[0]}
    assert "Szione" in copies  # dropped
    assert "Sezzione" in copies  # doubled
    assert "Seizone" in copies  # swapped
    assert {"Seziome", "Seziobe"} <= copies  # keys beside n
    assert {"SEZIONE", "sezione"} <= copies
    assert {"Sezionè", "Sezione'"} <= copies
    commas = augment(["Bari, Italy"], factor=500, seed=1)[0]
    assert {"Bari Italy", "Bari; Italy", "Bari,Italy"} <= set(commas)
    accents = augment(["Università di Forlì, Italy"], factor=300, seed=1, abbreviate=False)[0]
    assert "Universita di Forli, Italy" in accents


def test_the_keyboard_is_symmetric() -> None:
    assert set(NEIGHBOURS["s"]) == set("wedazx")
    assert "ò" in NEIGHBOURS["l"]
    for key in "qwertyuiopasdfghjklzxcvbnm":
        assert all(key in NEIGHBOURS[other] for other in NEIGHBOURS[key])


def test_short_texts_give_what_they_have_and_others_fill_up() -> None:
    few, _ = augment(["of", "UN"], size=1000, seed=1)
    assert 0 < len(few) < 998
    many, rows = augment(["of", TEXTS[1]], size=1000, seed=1)
    assert len(many) == 998
    assert (rows == 1).sum() > 900
    assert augment(["", "  "], size=10)[0] == []


def test_equal_rows_share_their_copies() -> None:
    copies, rows = augment([TEXTS[0], TEXTS[0], TEXTS[1]], size=30, seed=1)
    assert len(copies) == len(set(copies)) == 27
    assert set(rows.tolist()) == {0, 2}


@pytest.mark.parametrize(
    ("how", "field"),
    [({}, "augment"), ({"factor": 2.0, "size": 9}, "augment"), ({"factor": 1.0}, "factor"), ({"size": 2}, "size")],
)
def test_what_enlarges_nothing_is_refused(how: dict[str, float], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        augment(TEXTS, **how)  # type: ignore[arg-type]
    assert caught.value.field == field
