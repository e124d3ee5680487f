"""Code blocks of a Markdown page, so that what it shows is what a test runs."""

import re
from typing import NamedTuple

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """`shown` are the lines of output that comments at its end claim."""

    language: str
    code: str

    @property
    def shown(self) -> list[str]:
        lines = self.code.rstrip("\n").split("\n")
        shown = []
        while lines and lines[-1].startswith("# "):
            shown.insert(0, lines.pop().removeprefix("# "))
        return shown


def section(page: str, title: str) -> str:
    """The text below a heading of the second level. Raises ValueError when there is none."""
    _, found, rest = page.partition(f"\n## {title}\n")
    if not found:
        raise ValueError(f"no section '{title}'")
    return rest.partition("\n## ")[0]


def blocks(text: str) -> list[Block]:
    """All code blocks, in order."""
    return [Block(language, code) for language, code in _BLOCK.findall(text)]
