"""Other spellings of bibliographic words: the table `words.json` and the search in it."""

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

_JOINER = re.compile(r"[ .'’-]+\Z")
_WORD = re.compile(r"\w+")


def fold(text: str) -> str:
    """Lower case without accents: how words are compared."""
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


class Phrase(NamedTuple):
    """Words `start` to `stop` (exclusive) of a text may be written as any of `others`."""

    start: int
    stop: int
    others: tuple[str, ...]


class Entry(NamedTuple):
    """A spelling in the table: its folded words, what it may become, and the words one of which the text must hold."""

    words: tuple[str, ...]
    others: tuple[str, ...]
    context: frozenset[str]


@functools.cache
def _table() -> dict[str, list[Entry]]:
    """Entries by their first word, the longest first; entries with a context before those without."""
    document = json.loads(files(__package__).joinpath("words.json").read_text(encoding="utf-8"))
    table: dict[str, list[Entry]] = {}
    for group in document["groups"]:
        forms = list(dict.fromkeys(group["forms"]))
        for form in forms:
            words = tuple(_WORD.findall(fold(form)))
            others = tuple(x for x in (*forms, *group.get("into", ())) if x != form)
            table.setdefault(words[0], []).append(Entry(words, others, frozenset(group.get("context", ()))))
    for entries in table.values():
        entries.sort(key=lambda entry: (-len(entry.words), not entry.context))
    return table


def known_words() -> set[str]:
    """The folded words of all spellings: what a typo must not turn another word into."""
    return {word for entries in _table().values() for entry in entries for word in entry.words}


def find(words: Sequence[str], gaps: Sequence[str]) -> list[Phrase]:
    """The phrases of a text, longest match first, none overlapping; spellings of several groups are joined.

    `words` are the folded words of the text, `gaps[i]` is what stands between words i and i + 1.
    """
    table = _table()
    present = set(words)
    found: list[Phrase] = []
    i = 0
    while i < len(words):
        length, others = 0, dict[str, None]()
        for entry in table.get(words[i], ()):
            n = len(entry.words)
            if n < length:
                break
            if tuple(words[i : i + n]) != entry.words or (entry.context and not entry.context & present):
                continue
            if all(_JOINER.match(gap) for gap in gaps[i : i + n - 1]):
                length = n
                others.update(dict.fromkeys(entry.others))
        if length:
            found.append(Phrase(i, i + length, tuple(others)))
        i += length or 1
    return found
