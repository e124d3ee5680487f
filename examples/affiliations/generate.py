"""Generate labelled affiliation strings: which structure of INFN, if any, does an affiliation name?

    python examples/affiliations/generate.py --out affiliations.csv --positives 6000 --negatives 6000 --seed 1

Columns `text`, `label`: the code of the structure, or `[NoSite]`. The same arguments give the same file.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

if __name__ == "__main__":  # run as a file: the imports below start at the root of the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.affiliations.grammar import dress
from examples.affiliations.negatives import negative
from examples.affiliations.positives import positive
from examples.affiliations.structures import CODES, STRUCTURES

NO_SITE = "[NoSite]"
HELD_OUT = ("handwritten.tsv", "thirteen.tsv")


def read(path: Path) -> list[tuple[str, str]]:
    """(text, label) pairs of a file with a header and a tab between the two."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [(text, label) for text, label in (line.split("\t") for line in lines)]


def key(text: str) -> str:
    """What is left of a text without case and punctuation: two texts with equal keys count as one."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def generate(positives: int = 6000, negatives: int = 6000, seed: int = 1) -> list[tuple[str, str]]:
    """(text, label) pairs in random order, no text twice; every code has an equal share of the positives.

    No text of the files `HELD_OUT` is made: they are there to measure with.
    """
    random = Random(seed)
    seen = {key(text) for name in HELD_OUT for text, _ in read(Path(__file__).with_name(name))}
    rows: list[tuple[str, str]] = []
    share, rest = divmod(positives, len(CODES))
    for i, code in enumerate(CODES):
        structures = [structure for structure in STRUCTURES if structure.code == code]
        weights = [structure.share for structure in structures]
        texts = _unique(random, seen, lambda s=structures, w=weights: positive(random, random.choices(s, w)[0]))
        rows += [(next(texts), code) for _ in range(share + (i < rest))]
    texts = _unique(random, seen, lambda: negative(random))
    rows += [(next(texts), NO_SITE) for _ in range(negatives)]
    random.shuffle(rows)
    return rows


def _unique(random: Random, seen: set[str], make: Callable[[], str]) -> Iterator[str]:
    while True:
        text = dress(random, make())
        if key(text) not in seen:
            seen.add(key(text))
            yield text


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Generate labelled affiliation strings.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--positives", type=int, default=6000)
    parser.add_argument("--negatives", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rows = generate(options.positives, options.negatives, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    print(f"{len(rows)} strings in {options.out}")


if __name__ == "__main__":
    main()
