"""Choices in strings, and how databases dress an affiliation: separators, case, accents, countries, codes."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from random import Random

_INNERMOST = re.compile(r"\{([^{}]*)\}")


def pick(random: Random, text: str) -> str:
    """Resolve the choices of a string: `{a|b}` becomes a or b, `{|a}` nothing or a; they nest."""
    while "{" in text:
        text = _INNERMOST.sub(lambda match: random.choice(match[1].split("|")), text)
    return text


def address(random: Random, streets: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
    """A street and a town with its postal code, as databases write them; either may be empty."""
    street, code, town = (pick(random, part) for part in random.choice(streets))
    code = pick(random, "{I-|I-|I-|I-||||IT-|I }") + code
    line = random.choice((f"{code} {town}",) * 6 + (f"{town} {code}", f"{code}, {town}", code, town))
    kind = random.random()
    if kind < 0.25:
        return street, ""
    return ("", line) if kind < 0.5 else (street, line)


def country(random: Random) -> str:
    return pick(random, "{Italy|Italy|Italy|Italy|Italy|Italy|Italy|Italy|Italy|Italia|ITALY|}")


def join(random: Random, parts: Iterable[str]) -> str:
    """The parts with a comma between them, or less."""
    parts = [part for part in parts if part]
    kind = random.random()
    if kind < 0.8:
        return ", ".join(parts)
    if kind < 0.9:  # a comma is missing
        text = parts[0]
        lost = random.randrange(len(parts))
        for i, part in enumerate(parts[1:]):
            text += (" " if i == lost else ", ") + part
        return text
    return random.choice((" ", ",", "; ", " - ", " , ")).join(parts)


def dress(random: Random, text: str) -> str:
    """The case, accents, ampersands and ends of a whole string."""
    text = " ".join(text.split()).replace(" ,", ",")
    if random.random() < 0.3:
        text = text.replace("&", "and") if "&" in text else text.replace(" and ", " & ")
    if random.random() < 0.15:
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    kind = random.random()
    if kind < 0.08:
        text = text.upper()
    elif kind < 0.13:
        text = text.lower()
    elif kind < 0.15:
        text = text.title()
    elif kind < 0.22:
        text += "."
    elif kind < 0.26:
        text = text.replace("-", " ")
    return text
