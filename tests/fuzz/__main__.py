"""`make fuzz`: what reads text and bytes from outside gets arbitrary ones, and none may end it or let a secret out.

ARGS="--inputs 1000000 --seed 1 --target redaction". Prints a line for each target; where one fails, ends with 1 and
prints the smallest input that does. The same seed gives the same inputs.
"""

import argparse
import random
import sys

from tests.fuzz.engine import GUIDED, fuzz

TARGETS = {"redaction": 1, "entry-ids": 1, "records": 1, "events": 1, "replies": 1, "rounds": 10, "configuration": 10}
"""The modules here; those with a 10 are slower and get a tenth of the inputs."""


def main() -> int:
    """Fuzzes the targets in turn."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000,
                        help="of each target, of rounds and configuration a tenth (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--target", choices=TARGETS, action="append", help="only these")
    arguments = parser.parse_args()
    well = True
    print(f"seed {arguments.seed}, {'guided by coverage' if GUIDED else 'at random'}", flush=True)
    for name in arguments.target or TARGETS:
        outcome = fuzz(name, max(arguments.inputs // TARGETS[name], 1), arguments.seed)
        rate = outcome.inputs / max(outcome.seconds, 1e-9)
        print(f"{name:14} {outcome.inputs:9,} inputs, {rate:7,.0f} a second of a core, {outcome.crashes} crashes, "
              f"{outcome.leaks} leaks", flush=True)
        if outcome.failure:
            print(f"{name}, seed {arguments.seed}: {outcome.failure}", file=sys.stderr, flush=True)
            well = False
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
