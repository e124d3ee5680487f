"""Generate events like those of the boosted all-hadronic ttH(bb) analysis: 29 features in [0, 1], label 1 for ttH(bb), 0 for
QCD.

    python examples/tthbb/generate.py --out tthbb.csv --rows 4000 --seed 1

No detector is simulated: each feature is drawn from a distribution of the right shape, and mapped into [0, 1] by fixed
limits, which are those of the selection (jets with a radius of 0.8 above 300 GeV).

- Three fat jets, ordered in transverse momentum: exponential above 300 GeV, harder for the signal; pseudorapidity normal,
  wider for QCD.
- Soft-drop masses. Signal: two tops around 173 GeV and a Higgs boson around 125 GeV with 8% resolution, not always fully
  inside the jet; QCD: falling exponentially with a slope of 55 GeV.
- N-subjettiness ratios tau32 and tau21: beta distributions, small for jets of three and two prongs.
- b-tag discriminants of the fat jets and of the six subjets: beta distributions heaped near 1 for b quarks and near 0 for
  light ones.
- Counts of b-tagged subjets of the three fat jets, out of 2, 3 and 2; aplanarity, sphericity, centrality and the two angles
  of the event: beta distributions.

A quarter of the signal is badly reconstructed and looks like QCD, a tenth of the background (top pairs with b quarks) looks
like signal: no classifier gets more than about 83% right. The same arguments give the same file.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

FEATURES = (
    "pt1", "eta1", "pt2", "eta2", "pt3", "eta3", "btag1", "btag2", "mass1", "mass2", "mass3", "tau32_1", "tau32_2", "tau21_3",
    "btag3", "aplanarity", "sphericity", "thrust_minor", "subjet_btag1", "subjet_btag2", "subjet_btag3", "n_btags1",
    "n_btags2", "n_btags3", "deta_higgs_top", "dphi_tops", "centrality", "ht", "mass_event",
)  # fmt: skip
Values = npt.NDArray[np.float64]


def events(rows: int = 4000, seed: int = 1) -> tuple[Values, npt.NDArray[np.int64]]:
    """(features [rows, 29] in [0, 1], labels [rows]); half are signal."""
    random = np.random.default_rng(seed)
    label = random.random(rows) < 0.5
    # A quarter of the signal is not well reconstructed and looks like background; a tenth of the background (top pairs with
    # bottom quarks) looks like signal.
    signal = np.where(label, random.random(rows) < 0.75, random.random(rows) < 0.1)

    def shaped(a: tuple[float, float], b: tuple[float, float]) -> Values:
        """A beta distribution of the parameters `a` for what looks like signal, `b` for what looks like background."""
        return random.beta(np.where(signal, a[0], b[0]), np.where(signal, a[1], b[1]), rows)

    def within(value: Values, low: float, high: float) -> Values:
        return np.clip((value - low) / (high - low), 0, 1)

    pt = 300 + np.sort(random.exponential(np.where(signal, 130, 95)[:, None], (rows, 3)), axis=1)[:, ::-1]
    eta = np.clip(random.normal(0, np.where(signal, 0.9, 1.15)[:, None], (rows, 3)), -2.4, 2.4)
    inside = random.random((rows, 3)) < 0.7  # the whole decay is inside the jet
    resonance = np.array([173.0, 173.0, 125.0]) * random.normal(1, 0.08, (rows, 3))
    mass = np.where(signal[:, None] & inside, resonance, 30 + random.exponential(55, (rows, 3)))
    tags = [shaped((3.0, 1.2), (1.0, 2.2)) for _ in range(3)]
    subjets = [shaped((2.6, 0.9), (0.7, 1.6)) for _ in range(3)]
    chance = np.where(signal, 0.62, 0.22)
    counts = [random.binomial(most, chance) / most for most in (2, 3, 2)]
    ht = pt.sum(axis=1) + random.gamma(2, 60, rows)
    columns = [
        within(pt[:, 0], 300, 1500), within(eta[:, 0], -2.4, 2.4), within(pt[:, 1], 300, 1200), within(eta[:, 1], -2.4, 2.4),
        within(pt[:, 2], 300, 900), within(eta[:, 2], -2.4, 2.4), tags[0], tags[1],
        *(within(mass[:, i], 0, 500) for i in range(3)),
        shaped((3.0, 4.0), (5.0, 2.6)), shaped((3.0, 3.6), (5.0, 2.6)), shaped((2.4, 4.2), (4.2, 3.0)),
        tags[2], shaped((1.3, 7.0), (1.1, 11.0)), shaped((2.0, 3.0), (1.6, 4.0)), shaped((1.8, 6.0), (1.5, 8.0)),
        *subjets, *counts,
        shaped((2.0, 3.4), (2.0, 2.4)), shaped((4.0, 2.2), (5.0, 1.6)), shaped((3.2, 2.4), (2.4, 2.6)),
        within(ht, 900, 4000), within(ht * random.normal(1.15, 0.12, rows), 900, 5000),
    ]  # fmt: skip
    return np.column_stack(columns), label.astype(np.int64)


def write(path: Path, rows: int = 4000, seed: int = 1) -> Path:
    """Write the events as CSV: 29 features, then `label`; the path."""
    features, labels = events(rows, seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*FEATURES, "label"])
        for row, label in zip(features.tolist(), labels.tolist(), strict=True):
            writer.writerow([*(f"{value:.6f}" for value in row), label])
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("tthbb.csv"))
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(write(arguments.out, arguments.rows, arguments.seed))
