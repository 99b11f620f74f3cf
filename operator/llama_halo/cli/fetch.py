"""`llama-halo fetch`: download and verify an inspected source, in a Job."""

from __future__ import annotations

import argparse
from typing import Any

from llama_halo.artifacts import store
from llama_halo.artifacts.fetch import Progress, fetch, served
from llama_halo.cli import jobs
from llama_halo.contract.model import JOB_PORT, PROGRESS_PATH


def run(argv: list[str]) -> int:
    """Download the files of a source into the store."""
    parser = argparse.ArgumentParser(prog="llama-halo fetch")
    jobs.add_source(parser)
    parser.add_argument("--folder", required=True, metavar="PATH", help="below the store")
    parser.add_argument("--shards", type=int, default=1, metavar="NUMBER")
    parser.add_argument("--version", default="", help="of the file when it was inspected")
    parser.add_argument(
        "--reserve",
        type=jobs.reserve,
        default=store.Reserve(),
        metavar="SIZE",
        help="of the store's disk that stays free: 1Gi or more, or a share such as 15%%",
    )
    parser.add_argument("--port", type=int, default=JOB_PORT, help="where /progress is served")
    arguments = parser.parse_args(argv)
    return jobs.run_job(lambda: _fetch(arguments), arguments.report)


def _fetch(arguments: argparse.Namespace) -> dict[str, Any]:
    source = jobs.remote_source(arguments)
    files = source.files(arguments.shards, arguments.version, arguments.sha256)
    progress = Progress(arguments.store / arguments.folder, files, arguments.namespace)
    with served(progress, arguments.port, PROGRESS_PATH):
        return fetch(
            arguments.store,
            arguments.folder,
            files,
            source.headers,
            namespace=arguments.namespace,
            reserve=arguments.reserve,
        )
