"""`llama-halo inspect`: read the header of a source, in a Job."""

from __future__ import annotations

import argparse

from llama_halo.artifacts.inspect import KINDS, MODEL
from llama_halo.cli import jobs


def run(argv: list[str]) -> int:
    """Read the header of a source, and write the Job's report."""
    parser = argparse.ArgumentParser(prog="llama-halo inspect")
    jobs.add_source(parser)
    parser.add_argument("--kind", choices=KINDS, default=MODEL, help="what the file has to be")
    arguments = parser.parse_args(argv)
    return jobs.run_job(lambda: jobs.source(arguments).inspect(arguments.kind), arguments.report)
