"""The generated affiliation strings and the hand-written ones."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from examples.affiliations.generate import HELD_OUT, NO_SITE, generate, key, read
from examples.affiliations.grammar import pick
from examples.affiliations.structures import CODES, STRUCTURES

FOLDER = Path(__file__).parents[3] / "examples" / "affiliations"
EXPECTED = set("BA BO CA CT FE FI GE LE MI MIB NA PD PG PI PV RM1 RM2 RM3 TO TS LNF LNGS LNL CNAF TIFPA".split())  # noqa: SIM905


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    return generate()


def test_every_code_has_its_share(rows: list[tuple[str, str]]) -> None:
    labels = Counter(label for _, label in rows)
    assert labels.pop(NO_SITE) == 6000
    assert set(labels) == set(CODES) == EXPECTED
    assert set(labels.values()) == {240}


def test_no_text_comes_twice_not_even_in_other_case_or_punctuation(rows: list[tuple[str, str]]) -> None:
    assert len({key(text) for text, _ in rows}) == len(rows)
    assert all(
        text and text == text.strip() and "\n" not in text and "{" not in text and "@" not in text for text, _ in rows
    )


def test_the_seed_decides(rows: list[tuple[str, str]]) -> None:
    assert rows == generate()
    assert len(set(rows) & set(generate(seed=2))) < len(rows) / 5


def test_the_command_writes_what_the_function_gives(tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    arguments = ["--out", str(out), "--positives", "50", "--negatives", "20", "--seed", "3"]
    contents = []
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, str(FOLDER / "generate.py"), *arguments], check=True, env={"PYTHONHASHSEED": hash_seed}
        )
        contents.append(out.read_text())
    assert contents[0] == contents[1]
    assert contents[0].startswith("text,label\n")
    assert len(contents[0].splitlines()) == 71


def test_associated_groups_carry_the_code_of_their_section() -> None:
    codes = {structure.city: structure.code for structure in STRUCTURES if structure.kind == "group"}
    found = {pick(Random(1), city): code for city, code in codes.items()}
    assert {"Brescia": "PV", "Messina": "CT", "Parma": "MIB", "Salerno": "NA", "Siena": "PI"}.items() <= found.items()
    assert {"Udine": "TS", "Alessandria": "TO"}.items() <= found.items()
    assert sorted(codes.values()) == sorted(["LNGS", "LNF", "PV", "CT", "MIB", "NA", "PI", "TS", "TO", "RM1"])


def test_hard_negatives_are_there(rows: list[tuple[str, str]]) -> None:
    negatives = [text.lower() for text, label in rows if label == NO_SITE]
    for word in (
        "inaf",
        "cnr",
        "enea",
        "ingv",
        "cern",
        "esrf",
        "desy",
        "esrin",
        "infm",
        "natl inst nucl phys",
        "osped",
    ):
        assert sum(word in text for text in negatives) >= 5, word
    in_cities = [t for t in negatives if "univ" in t and any(city in t for city in ("pisa", "roma", "bari", "catania"))]
    assert len(in_cities) > 500


def test_positives_without_the_acronym_are_there(rows: list[tuple[str, str]]) -> None:
    positives = [text.lower() for text, label in rows if label != NO_SITE]
    assert sum("infn" not in text and "i.n.f.n" not in text for text in positives) > len(positives) / 5


def test_handwritten_strings_are_many_varied_and_not_generated(rows: list[tuple[str, str]]) -> None:
    handwritten = read(FOLDER / "handwritten.tsv")
    labels = Counter(label for _, label in handwritten)
    assert len(handwritten) >= 130
    assert set(labels) == {*CODES, NO_SITE}
    assert 0.35 <= labels[NO_SITE] / len(handwritten) <= 0.4
    assert len({key(text) for text, _ in handwritten}) == len(handwritten)
    generated = {key(text) for seed in (1, 2, 3) for text, _ in (rows if seed == 1 else generate(seed=seed))}
    for name in HELD_OUT:
        assert [text for text, _ in read(FOLDER / name) if key(text) in generated] == []


def test_the_thirteen() -> None:
    thirteen = read(FOLDER / "thirteen.tsv")
    assert [label for _, label in thirteen] == ["LNF"] * 5 + ["BA"] * 3 + ["CT", "CNAF", "FI"] + [NO_SITE] * 2
