"""Long runs of the simulation: ``python -m tests.simulation --seeds 100000 --from 0``."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.scenarios import play


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--mode", default="closed", help="failure mode: closed, local or open")
    options = parser.parse_args()
    failed = 0
    for done, seed in enumerate(range(options.first, options.first + options.seeds), 1):
        try:
            play(seed, options.mode)
        except AssertionError as error:
            failed += 1
            sys.stdout.write(f"\n{error}\n")
        if done % 100 == 0:
            sys.stdout.write(f"\r{done} of {options.seeds} seeds, {failed} failed")
            sys.stdout.flush()
    sys.stdout.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
