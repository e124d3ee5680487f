"""Enlargement of 12,000 labelled strings to 400,000 on one core, and its ratio to the goal of 20 s.

    taskset -c 0 python benchmarks/augment.py

For comparison the same number of strings with one random letter exchanged each, the least that a loop in Python can do.
"""

import os
import random
import string
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from examples.affiliations.generate import generate  # noqa: E402

from mlaas.runtimes.augment import augment  # noqa: E402

ROWS, SIZE, GOAL = 12_000, 400_000, 20.0


def noise(texts: list[str], count: int) -> list[str]:
    """One random letter in the place of another."""
    draw = random.Random(1)
    copies = []
    for i in range(count):
        text = texts[i % len(texts)]
        place = int(draw.random() * len(text))
        copies.append(text[:place] + string.ascii_letters[int(draw.random() * 52)] + text[place + 1 :])
    return copies


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    texts = [text for text, _ in generate(ROWS // 2, ROWS // 2)]
    start = time.perf_counter()
    copies, _ = augment(texts, size=SIZE, seed=1)
    took = time.perf_counter() - start
    start = time.perf_counter()
    noise(texts, len(copies))
    least = time.perf_counter() - start
    assert len(copies) == SIZE - ROWS == len(set(copies) - set(texts))
    print(f"{ROWS:,} to {SIZE:,} strings: {took:.1f} s on one core, {len(copies) / took:,.0f} strings/s")
    print(
        f"ratio to the goal of {GOAL:.0f} s: {took / GOAL:.2f}; to one random letter each ({least:.2f} s): {took / least:.1f}"
    )


if __name__ == "__main__":
    main()
