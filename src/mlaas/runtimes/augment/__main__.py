"""`python -m mlaas.runtimes.augment IN OUT --factor 30 --seed 1`."""

import argparse
import sys
from pathlib import Path

from mlaas.kernel.errors import Error
from mlaas.runtimes.augment.tables import augment_file


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mlaas.runtimes.augment", description="Enlarge a data set by smart typos.")
    parser.add_argument("source", type=Path, metavar="IN", help="CSV, TSV or JSON lines")
    parser.add_argument("target", type=Path, metavar="OUT", help="CSV, TSV or JSON lines; must not exist")
    much = parser.add_mutually_exclusive_group(required=True)
    much.add_argument("--factor", type=float, help="how many times as many rows")
    much.add_argument("--size", type=int, help="how many rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--test-split", type=float, help="share or number of rows to set aside, unchanged, as OUT.test")
    parser.add_argument("--encoding", default="utf-8")
    parser.add_argument("--no-abbreviate", dest="abbreviate", action="store_false", help="letters and punctuation only")
    options = vars(parser.parse_args(arguments))
    try:
        done = augment_file(options.pop("source"), options.pop("target"), **options)
    except Error as e:
        print(f"{e.message}{f' {e.hint}' if e.hint else ''}", file=sys.stderr)
        return 1
    print(f"{done.rows} rows in {done.target}, {done.copies} of them new")
    if done.test:
        print(f"{done.test_rows} test rows in {done.test}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
