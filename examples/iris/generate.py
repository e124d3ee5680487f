"""Fisher's iris flowers as CSV: the 150 rows that scikit-learn ships (R. A. Fisher, 1936), four lengths in cm and the species.

python examples/iris/generate.py --out iris.csv
"""

import argparse
import csv
from pathlib import Path

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width", "species")


def write(path: Path) -> Path:
    """Write the data set; the path."""
    from sklearn.datasets import load_iris

    flowers = load_iris()
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for lengths, species in zip(flowers.data.tolist(), flowers.target.tolist(), strict=True):
            writer.writerow([*lengths, species])
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("iris.csv"))
    print(write(parser.parse_args().out))
