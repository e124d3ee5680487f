"""One text and its smart typos. The letters of a text change little: a reader still knows what is meant.

- Numbers never change; a postal code may go as a whole.
- Acronyms and words of up to three letters keep their letters; a word of up to seven takes one edit, a longer one two.
- A text takes one edit for each 14 characters, four at most.
- No edit turns a word into another word that is known (INFN into INFM, Lecce into Lecco where the texts hold both).
"""

import re
import unicodedata
from collections.abc import Callable, Set

from mlaas.runtimes.augment.keyboard import NEIGHBOURS
from mlaas.runtimes.augment.words import find, fold

_SPLIT = re.compile(r"(\W+)")
_POSTAL = re.compile(r"[A-Za-z]{0,2}\d{5}\Z")
_ACCENTS = dict(zip("aeiou", "àèìòù", strict=True))
Random = Callable[[], float]
"""A source of numbers in [0, 1)."""


def plain(text: str) -> str:
    """The text without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def mistype(word: str, random: Random) -> str:
    """The word with one typing error: a neighbouring key, a swap, a letter dropped, doubled or slipped in.

    The first letter seldom changes: readers and typists get it right.
    """
    n = len(word)
    i = int(random() * n) if random() < 0.1 else 1 + int(random() * (n - 1))
    letter = word[i]
    if not letter.isalpha():
        return word
    kind = random()
    if kind < 0.2:
        return word[:i] + word[i + 1 :]
    if kind < 0.35:
        return word[:i] + letter + word[i:]
    if kind < 0.55:
        if i + 1 == n:
            i -= 1
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    keys = NEIGHBOURS.get(letter.lower())
    if not keys:
        return word
    key = keys[int(random() * len(keys))]
    if letter.isupper():
        key = key.upper()
    return word[:i] + key + word[i + 1 if kind < 0.9 else i :]


class Text:
    """A text prepared for making many copies: its words and gaps, its phrases, and where typing errors may go."""

    __slots__ = ("codes", "commas", "edits", "known", "parts", "phrases", "targets", "text")

    def __init__(self, text: str, known: Set[str], *, abbreviate: bool = True) -> None:
        """`known`: folded words that no typo may produce."""
        self.text = text
        self.known = known
        self.parts = parts = _SPLIT.split(text)  # words at even places, gaps at odd ones
        words = parts[::2]
        self.edits = max(1, min(4, len(text) // 14))
        shout = text.isupper()
        self.targets = [
            2 * i
            for i, word in enumerate(words)
            if word.isalpha() and len(word) > 3 and not (word.isupper() and (not shout or len(word) < 5))
            for _ in range(len(word))
        ]
        self.codes = [2 * i for i, word in enumerate(words) if _POSTAL.match(word)]
        self.commas = [i for i in range(1, len(parts), 2) if "," in parts[i]]
        self.phrases: list[tuple[int, int, list[str]]] = []
        if not abbreviate:
            return
        case = str.upper if shout else str.lower if text.islower() else str
        for start, stop, others in find([fold(word) for word in words], parts[1::2]):
            self.phrases.append((2 * start, 2 * stop - 1, [case(other) for other in others]))

    def copy(self, random: Random) -> str:
        """One changed copy; now and then it is the text itself."""
        parts = self.parts.copy()
        changed = self._respell(parts, random) if self.phrases else False
        self._mistype(parts, random, at_least=not changed)
        if self.codes and random() < 0.12:
            self._drop_code(parts, random)
        if self.commas and random() < 0.3:
            self._punctuate(parts, random)
        text = "".join(parts)
        return self._whole(text, random) if random() < 0.22 else text

    def _respell(self, parts: list[str], random: Random) -> bool:
        changed = False
        share = 0.55 * random()  # some copies are rewritten throughout, others hardly
        for start, stop, others in self.phrases:
            if random() < share:
                other = others[int(random() * len(others))]
                if stop < len(parts) and parts[stop][:1] == ".":  # the full stop of an abbreviation goes with it
                    parts[stop] = parts[stop][1:]
                parts[start:stop] = [other, *[""] * (stop - start - 1)]
                changed = True
        return changed

    def _mistype(self, parts: list[str], random: Random, *, at_least: bool) -> None:
        targets = self.targets
        if not targets:
            return
        share = random()
        count = int(share * share * (self.edits + 1)) or int(at_least and share > 0.3)
        touched: list[int] = []
        for _ in range(count):
            i = targets[int(random() * len(targets))]
            word = parts[i]
            if len(word) < 4 or (word.isupper() and not self.text.isupper()):
                continue
            if touched.count(i) >= (1 if len(word) < 8 else 2):
                continue
            wrong = mistype(word, random)
            if fold(wrong) not in self.known:
                parts[i] = wrong
                touched.append(i)

    def _drop_code(self, parts: list[str], random: Random) -> None:
        i = self.codes[int(random() * len(self.codes))]
        if i + 1 == len(parts):
            return
        parts[i] = ""
        if parts[i + 1].isspace():
            parts[i + 1] = ""
        if i >= 2 and parts[i - 1] == "-" and len(parts[i - 2]) <= 2:  # the country before it: I-00044
            parts[i - 2] = parts[i - 1] = ""

    def _punctuate(self, parts: list[str], random: Random) -> None:
        kind = random()
        if kind < 0.2:
            mark = (" ", "; ", " - ", " , ", ",")[int(random() * 5)]
            for i in self.commas:
                parts[i] = parts[i].replace(", ", mark)
            return
        i = self.commas[int(random() * len(self.commas))]
        mark = ("", ";", ".", ",,", " ,", " -", ", ")[int(random() * 7)]
        parts[i] = parts[i].replace(",", mark, 1) or " "

    def _whole(self, text: str, random: Random) -> str:
        """A change of the text as a whole: its case, its accents, its edges, its spaces."""
        if not text.isascii() and random() < 0.4:
            return plain(text)
        kind = random()
        if kind < 0.25:
            return text.upper()
        if kind < 0.5:
            return text.lower()
        if kind < 0.6:
            return text.title()
        if kind < 0.7:
            return text.swapcase() if random() < 0.2 else text[:1].lower() + text[1:]
        if kind < 0.8:
            return text.rstrip(" .") + (".", " ", ";", ",")[int(random() * 4)]
        if kind < 0.9:
            return text.replace(" ", "  ", 1) if random() < 0.5 else text.replace("-", " ")
        return self._accent(text, random)

    def _accent(self, text: str, random: Random) -> str:
        """An accent on the last vowel of a word, set as a letter or, as typists without the key do, as an apostrophe."""
        words = text.split(" ")
        i = int(random() * len(words))
        word = words[i]
        if len(word) > 4 and word[-1] in _ACCENTS and not word.isupper():
            words[i] = word[:-1] + _ACCENTS[word[-1]] if random() < 0.6 else word + "'"
        return " ".join(words)
