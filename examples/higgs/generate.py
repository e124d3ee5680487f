"""Generate events like those of the Higgs boson challenge: 20 standardised features, label 1 for H -> tau tau, 0 for
background.

    python examples/higgs/generate.py --out higgs.csv --rows 4000 --seed 1

No detector is simulated: each feature is drawn from a distribution of the right shape, in GeV before it is standardised.

- Masses. Signal: the mass of the tau pair around 125 GeV with 17% resolution. Background: 65% Z -> tau tau around 91 GeV
  with 15%, the rest top pairs and W + jets, exponential above 60 GeV with a slope of 60 GeV. The visible mass is 0.62 of
  it.
- Transverse momenta (tau, lepton, missing energy, jets): gamma distributions, harder for the signal, which recoils against
  jets; the recoil makes the pair's own transverse momentum and shrinks the angle between tau and lepton (2 m / pT).
- Jets: vector-boson fusion makes a third of the signal: two forward jets in opposite hemispheres (large distance in
  pseudorapidity, large mass, negative product). Other jets are central.
- Pseudorapidities of tau and lepton: normal, wider for the background. Centralities: beta distributions.

A perfect classifier does not exist: the distributions overlap. Every feature is standardised by its mean and standard
deviation over the file. The same arguments give the same file.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

FEATURES = (
    "mass", "mass_transverse", "mass_visible", "pt_pair", "deta_jets", "mass_jets", "eta_product_jets", "dr_tau_lepton",
    "pt_total", "pt_sum", "pt_ratio", "met_centrality", "lepton_centrality", "tau_pt", "tau_eta", "lepton_pt", "lepton_eta",
    "met", "jet1_pt", "jet2_pt",
)  # fmt: skip


def events(rows: int = 4000, seed: int = 1) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(features [rows, 20], labels [rows]); about 40% are signal."""
    random = np.random.default_rng(seed)
    signal = random.random(rows) < 0.4
    z = random.random(rows) < 0.65
    fusion = signal & (random.random(rows) < 1 / 3)

    peak = np.where(signal, 125 * random.normal(1, 0.17, rows), 91 * random.normal(1, 0.15, rows))
    mass = np.where(signal | z, peak, 60 + random.exponential(60, rows))
    mass_visible = 0.62 * mass * random.normal(1, 0.1, rows)
    recoil = random.gamma(2, np.where(signal, 32, 20), rows)
    pt_pair = recoil * random.normal(1, 0.12, rows)
    tau_pt = 20 + random.gamma(1.6, np.where(signal, 17, 11), rows) + 0.15 * recoil
    lepton_pt = 26 + random.gamma(1.4, np.where(signal, 14, 12), rows)
    met = random.gamma(2, np.where(signal, 20, 14), rows) + 0.2 * recoil
    angle = random.uniform(0, np.pi, rows)
    mass_transverse = np.sqrt(2 * lepton_pt * met * (1 - np.cos(np.where(signal | z, 0.45, 1.0) * angle)))
    dr = np.clip(2 * mass_visible / (recoil + 45) + random.normal(0, 0.25, rows), 0.4, 5.5)

    jet1_pt = 30 + random.gamma(1.5, np.where(signal, 36, 30), rows)
    jet2_pt = 30 + random.gamma(1.2, 18, rows)
    deta = np.where(fusion, random.normal(3.9, 0.9, rows), np.abs(random.normal(0, 1.3, rows)))
    eta_product = np.where(fusion, -((deta / 2) ** 2), random.normal(0.3, 1.2, rows)) + random.normal(0, 0.4, rows)
    mass_jets = np.sqrt(2 * jet1_pt * jet2_pt * (np.cosh(np.clip(deta, 0, 6)) + 0.6)) * random.normal(1, 0.08, rows)
    tau_eta = random.normal(0, np.where(signal, 1.0, 1.25), rows)
    lepton_eta = 0.4 * tau_eta + random.normal(0, np.where(signal, 0.9, 1.1), rows)
    met_centrality = 2 * random.beta(np.where(signal, 2.2, 1.2), 1.1, rows) - 1
    lepton_centrality = random.beta(np.where(fusion, 4, 1), np.where(fusion, 1, 1.6), rows)
    pt_total = random.gamma(1.5, 9, rows) + np.where(signal, 0, random.gamma(1, 4, rows))
    pt_sum = tau_pt + lepton_pt + jet1_pt + np.where(deta > 0.2, jet2_pt, 0)

    columns = [mass, mass_transverse, mass_visible, pt_pair, deta, mass_jets, eta_product, dr, pt_total, pt_sum,
               lepton_pt / tau_pt, met_centrality, lepton_centrality, tau_pt, tau_eta, lepton_pt, lepton_eta, met, jet1_pt,
               jet2_pt]  # fmt: skip
    features = np.column_stack(columns)
    return (features - features.mean(axis=0)) / features.std(axis=0), signal.astype(np.int64)


def write(path: Path, rows: int = 4000, seed: int = 1) -> Path:
    """Write the events as CSV: 20 features with eight decimals, then `label`; the path."""
    features, labels = events(rows, seed)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*FEATURES, "label"])
        for row, label in zip(features.tolist(), labels.tolist(), strict=True):
            writer.writerow([*(f"{value:.8f}" for value in row), label])
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("higgs.csv"))
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(write(arguments.out, arguments.rows, arguments.seed))
