"""What the abstracts are about: projects of an institute's five scientific committees, each with its own words.

A committee's projects share its words, as their abstracts do: what tells one from another are a few subjects of its own, each
in several wordings (`topics.yaml`).
"""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Project:
    """`name` is committee/project. `words` are the committee's; `phrases` the project's subjects, each a tuple of wordings."""

    name: str
    words: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    @property
    def committee(self) -> str:
        return self.name.split("/")[0]


def projects() -> list[Project]:
    document = yaml.safe_load((Path(__file__).parent / "topics.yaml").read_text(encoding="utf-8"))
    return [
        Project(f"{committee}/{name}", tuple(entry["words"]), tuple(tuple(subject) for subject in subjects))
        for committee, entry in document.items()
        for name, subjects in entry["projects"].items()
    ]
