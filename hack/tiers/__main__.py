"""`python -m hack.tiers [TIER ...]`: run tiers, all of them unless some are named.

One alone prints as pytest does. Several run side by side; the last lines are their table, and after
it, when something failed, what failed and where to look.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from hack.testbed.shell import TestbedError
from hack.tiers import report
from hack.tiers.runner import REPORTS, Runner, run_alone
from hack.tiers.tiers import TIERS


def main() -> int:
    """Return 0 when every test passed."""
    parser = argparse.ArgumentParser(prog="python -m hack.tiers", description=__doc__)
    names = [tier.name for tier in TIERS]
    parser.add_argument("tier", nargs="*", help=f"of {', '.join(names)}")
    parser.add_argument("--cluster", default="testbed", choices=["testbed", "kind", "current"])
    parser.add_argument("--quick", action="store_true", help="what `make quick` runs")
    parser.add_argument("--options", default="", help="more arguments for pytest, in one word")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.tier) - set(names)):
        parser.error(f"there is no tier {', '.join(unknown)}: choose from {', '.join(names)}")
    chosen = [tier for tier in TIERS if tier.name in (arguments.tier or names)]
    options = shlex.split(arguments.options)
    if arguments.quick:
        chosen = [tier for tier in chosen if tier.quick]
        options += ["-m", "not slow"]
    if len(chosen) == 1 and not chosen[0].command:
        run_alone(chosen[0], cluster=arguments.cluster, options=options)
    runner = Runner(chosen, cluster=arguments.cluster, options=options)
    results = runner.run()
    print(f"\n{report.table(results)}\n{runner.machine}")
    if all(result.passed for result in results):
        return 0
    print(f"\n{report.failures(results, os.path.relpath(REPORTS))}")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TestbedError as error:
        sys.exit(f"tiers: {error}")
