"""Enlarge a set of texts by smart typos."""

import hashlib
import random
import re
from collections.abc import Collection, Iterable, Sequence

import numpy
import numpy.typing

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.augment.typos import Text
from mlaas.runtimes.augment.words import fold, known_words

_TRIES = 20  # per copy, before a text counts as exhausted
_WORD = re.compile(r"[^\W\d_]{4,}")


def augment(
    texts: Sequence[str],
    *,
    factor: float | None = None,
    size: int | None = None,
    seed: int = 0,
    abbreviate: bool = True,
    exclude: Collection[str] = (),
) -> tuple[list[str], numpy.typing.NDArray[numpy.int64]]:
    """Changed copies that enlarge `texts` to `factor` times their number, or to `size` rows; `texts` themselves count.

    Returns the new texts, shape (m,), and for each the index of the row it was made from. Give it training rows only: no
    text is made that equals one of `texts` or of `exclude` (the test texts), and none is made twice, so a new text belongs
    to one row. Which copies a text gets depends on `seed` and on the set of texts, not on their order. Copies are made of
    the first of equal rows. m is smaller than asked only where short texts have no more variants to give.
    `abbreviate` also exchanges bibliographic words and their abbreviations (`words.json`).

    Raises `Invalid` unless exactly one of `factor` > 1 and `size` >= len(texts) is given.
    """
    wanted = _wanted(len(texts), factor, size)
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        if text.strip():
            first.setdefault(text, i)
    known = known_words() | _vocabulary(first)
    sources = sorted((_digest(seed, text), text) for text in first)
    taken = {*texts, *exclude}
    made: list[list[str]] = [[] for _ in texts]
    turn = 0
    while wanted and sources:
        share, rest = divmod(wanted, len(sources))
        tireless = []
        for k, (digest, text) in enumerate(sources):
            count = share + (k < rest)
            copies = _copies(Text(text, known, abbreviate=abbreviate), count, digest + turn, taken)
            made[first[text]] += copies
            wanted -= len(copies)
            if len(copies) == count:
                tireless.append((digest, text))
        sources = tireless  # what exhausted texts could not give, the others give in the next turn
        turn += 1
    rows = numpy.repeat(numpy.arange(len(texts), dtype=numpy.int64), [len(copies) for copies in made])
    return [copy for copies in made for copy in copies], rows


def _copies(text: Text, count: int, seed: int, taken: set[str]) -> list[str]:
    """Up to `count` copies that are not `taken`, which they then are."""
    draw = random.Random(seed).random
    copies: list[str] = []
    for _ in range(count):
        for _ in range(_TRIES):
            copy = text.copy(draw)
            if copy not in taken:
                taken.add(copy)
                copies.append(copy)
                break
        else:
            break
    return copies


def _wanted(rows: int, factor: float | None, size: int | None) -> int:
    if (factor is None) == (size is None):
        raise Invalid("Either `factor` or `size` says how far to enlarge", field="augment", hint="Give one of the two.")
    if factor is not None:
        if not 1 < factor < float("inf"):
            raise Invalid(f"The factor is {factor}, which enlarges nothing", field="factor", hint="Give more than 1.")
        size = round(rows * factor)
    assert size is not None
    if size < rows:
        raise Invalid(
            f"The size {size} is less than the {rows} rows there are", field="size", hint="Give a larger size."
        )
    return size - rows


def _digest(seed: int, text: str) -> int:
    """A number of 16 digits or so that seed and text decide, on any machine."""
    data = f"{seed}\0{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _vocabulary(texts: Iterable[str]) -> set[str]:
    return {fold(word) for text in texts for word in _WORD.findall(text)}
