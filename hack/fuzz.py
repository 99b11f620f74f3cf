"""`python -m hack.fuzz [TARGET ...] [--minutes N]`: run property tests with ever new seeds.

Each target gets the minutes. The first failure ends the run with its seed; the input belongs into
the test as an `@example`, which `make test` then runs for ever.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time

TARGETS = {
    "apis": ("tests/unit/gateway/apis/test_apis.py", "tests/unit/gateway/http"),
    "answers": ("tests/unit/gateway/apis/test_hostile_answers.py", "tests/unit/gateway/dispatch"),
    "watch": (
        "tests/unit/controllers/test_hostile_objects.py",
        "tests/unit/gateway/models",
        "tests/unit/kube",
        "tests/unit/test_nested_json.py",
    ),
    "importers": ("tests/unit/importers",),
}


def fuzz(target: str, minutes: float, first_seed: int) -> None:
    """Run a target's property tests until the time is over; raises `SystemExit` on a failure."""
    deadline = time.monotonic() + minutes * 60
    for seed in itertools.count(first_seed):
        command = (sys.executable, "-m", "pytest", "-q", "-x", "-m", "hypothesis")
        options = (f"--hypothesis-seed={seed}", "-p", "no:cacheprovider", *TARGETS[target])
        done = subprocess.run((*command, *options), capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout[-8000:])
            sys.exit(f"{target} failed with --hypothesis-seed={seed}")
        if time.monotonic() > deadline:
            print(
                f"{target}: {seed - first_seed + 1} runs, seeds {first_seed} to {seed}", flush=True
            )
            return


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hack.fuzz", description=__doc__)
    names = ", ".join(TARGETS)
    parser.add_argument("target", nargs="*", help=f"of {names}; all unless some are named")
    parser.add_argument("--minutes", type=float, default=20, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first seed")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.target) - set(TARGETS)):
        parser.error(f"there is no target {', '.join(unknown)}: choose from {names}")
    for target in arguments.target or TARGETS:
        fuzz(target, arguments.minutes, arguments.seed)


if __name__ == "__main__":
    main()
