# ruff: noqa: E501 -- tables of choices, one a line
"""What is known of a structure of INFN.

Strings are choices: `{a|b}` is a or b, `{|a}` may be left out (see `grammar.pick`).
"""

from dataclasses import dataclass

Street = tuple[str, str, str]
"""Street, postal code, town."""


@dataclass(frozen=True)
class Structure:
    """A section, laboratory, centre or associated group. `place` names it for sure ("Roma Tre"), `city` may not ("Roma")."""

    code: str
    kind: str  # section | lab | group
    place: str
    city: str
    universities: tuple[str, ...]
    departments: tuple[str, ...]
    streets: tuple[Street, ...]
    names: tuple[str, ...] = ()  # of a laboratory: names that need no "INFN" beside them
    acronym: str = ""  # of a laboratory, where it is not the code
    towns: str = ""  # of a national laboratory: what "Lab Nazl" may stand beside
    parent: str = ""  # of a group: the place of its section
    share: float = 1.0  # of the strings of its code


def university(italian: str, english: str | None = None) -> str:
    """The usual names of the university of a city."""
    english = english or italian
    return (
        "{"
        f"Univ {italian}|Univ {italian}|Univ {italian}|{italian} Univ|Univ {english}|{english} Univ|Univ degli Studi {{|di }}{italian}|"
        f"Univ Studi {italian}|Universit{{a|à|a'}} di {italian}|Universit{{a|à}} degli Studi di {italian}|"
        f"University of {english}|{english} University|Univ. {{|di }}{italian}"
        "}"
    )
