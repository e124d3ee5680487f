"""Write abstracts with the project they come from: `documents.csv` to index and tune on, `queries.csv` that are held back.

    python examples/abstracts/generate.py DIR [--documents 2000] [--queries 200] [--seed 0]

An abstract names one or two of its project's subjects, now and then one of a neighbour's, and otherwise speaks in the words
of its group and of physics: so the nearest abstract is often, but not always, of the same project.
"""

import argparse
import csv
import random
from pathlib import Path

try:
    from examples.abstracts.topics import Project, projects
except ModuleNotFoundError:  # run as a script
    from topics import Project, projects  # type: ignore[import-not-found, no-redef]

OPENINGS = (
    "We present a study of {own}.",
    "We investigate {own}.",
    "This work reports on {own}.",
    "A new analysis of {own} is described.",
    "Recent results on {own} are reviewed.",
    "We discuss {own} in the light of new data.",
    "Motivated by {neighbour}, we turn to {own}.",
    "Methods known from {neighbour} are applied to {own}.",
    "We present new techniques for {group}.",
    "The interplay of {neighbour} and {own} is explored.",
)
MIDDLES = (
    "The {group} is determined with improved precision.",
    "Particular attention is paid to {group} and {other}.",
    "Our approach combines {group} with {own}.",
    "A comparison with {other} shows good agreement within uncertainties.",
    "The dependence on {group} is found to be weak.",
    "Systematic effects from {other} are estimated with control samples.",
    "Both {group} and {other} are modelled in detail.",
    "The method relies on {other} and needs no tuning.",
    "Related questions arise for {neighbour}.",
    "The case of {own} is treated separately.",
)
ENDINGS = (
    "The results constrain {other} and open the way to further measurements.",
    "Prospects for {group} are outlined.",
    "Implications for {neighbour} are discussed.",
    "No significant deviation from expectations is observed.",
    "These findings will guide future work on {group}.",
)
COMMON = (
    "statistical uncertainty",
    "a likelihood fit",
    "machine learning",
    "Monte Carlo samples",
    "the Standard Model",
    "calibration",
    "theoretical predictions",
    "data taking",
    "model parameters",
    "the energy scale",
    "background rejection",
    "a Bayesian analysis",
)


def abstract(project: Project, neighbours: list[Project], draw: random.Random) -> str:
    """Four to six sentences."""

    def fill(sentence: str) -> str:
        return sentence.format(
            own=draw.choice(draw.choice(project.phrases)),
            group=draw.choice(project.words),
            other=draw.choice(COMMON),
            neighbour=draw.choice(draw.choice(draw.choice(neighbours).phrases)),
        )

    middles = draw.sample(MIDDLES, draw.randint(2, 4))
    return " ".join(fill(sentence) for sentence in (draw.choice(OPENINGS), *middles, draw.choice(ENDINGS)))


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    """(abstract, project), the projects in turn."""
    draw = random.Random(seed)
    known = projects()
    found = []
    for i in range(count):
        project = known[i % len(known)]
        neighbours = [other for other in known if other is not project and other.committee == project.committee]
        found.append((abstract(project, neighbours, draw), project.name))
    return found


def write(folder: Path, documents: int = 2000, queries: int = 200, seed: int = 0) -> tuple[Path, Path]:
    """(documents.csv, queries.csv), columns abstract and project; no abstract is in both."""
    folder.mkdir(parents=True, exist_ok=True)
    every = list(dict.fromkeys(rows(documents + 2 * queries, seed)))
    held, kept = every[:queries], every[queries : queries + documents]
    paths = folder / "documents.csv", folder / "queries.csv"
    for path, part in zip(paths, (kept, held), strict=True):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("abstract", "project"))
            writer.writerows(part)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for written in write(given.folder, given.documents, given.queries, given.seed):
        print(written)
