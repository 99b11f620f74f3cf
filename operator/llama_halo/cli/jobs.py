"""Shared by `inspect` and `fetch`: the arguments that name a source, and the Job's report."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_halo.artifacts import report
from llama_halo.artifacts.hub import HubFile
from llama_halo.artifacts.inspect import HubSource, StoredSource, UrlSource
from llama_halo.artifacts.store import Reserve
from llama_halo.errors import CliError, LlamaHaloError, NotAllowed
from llama_halo.logs import configure_logging
from llama_halo.plan.quantity import mebibytes


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a source; exactly one of --repo, --url and --path."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--repo", metavar="OWNER/NAME", help="of the Hugging Face Hub")
    which.add_argument("--url", metavar="URL")
    which.add_argument("--path", metavar="PATH", help="below the store")
    parser.add_argument("--file", metavar="PATH", help="in the repository")
    parser.add_argument("--revision", default="main", help="branch, tag or commit")
    parser.add_argument("--sha256", metavar="DIGITS", help="of the file")
    parser.add_argument(
        "--headers", type=Path, metavar="FOLDER", help="files named like the headers to send"
    )
    parser.add_argument(
        "--namespace", default="", help="of the LlamaModel; files without a checksum are its own"
    )
    parser.add_argument("--store", type=Path, default=Path("/models"), metavar="FOLDER")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="PATH",
        help="where the result is written",
    )


def reserve(text: str) -> Reserve:
    """Parse a reserve: a quantity of memory, or a share of the disk in per cent."""
    share = text.removesuffix("%")
    if share != text:
        return Reserve(percent=int(share))
    return Reserve(max(mebibytes(text) * 2**20, Reserve().size))


def remote_source(arguments: argparse.Namespace) -> HubSource | UrlSource:
    """Return the source of a Hub repository or a URL."""
    if arguments.repo:
        if not arguments.file:
            raise CliError("--repo needs --file")
        file = HubFile(arguments.repo, arguments.file, arguments.revision)
        return HubSource(file, arguments.namespace)
    return UrlSource(
        arguments.url, headers(arguments.headers), arguments.sha256, arguments.namespace
    )


def source(arguments: argparse.Namespace) -> HubSource | UrlSource | StoredSource:
    """Return the source: in the store, on the Hub, or at a URL."""
    if arguments.path:
        return StoredSource(arguments.store, arguments.path)
    return remote_source(arguments)


def headers(folder: Path | None) -> dict[str, str]:
    """Return the headers in a mounted Secret, one file each; raises `NotAllowed` for a bad one."""
    if folder is None:
        return {}
    header_fields = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            value = path.read_text(errors="replace").strip()
            if not value.isascii() or not value.isprintable():
                raise NotAllowed(f"the header {path.name} has characters that no header can have")
            header_fields[path.name] = value
    return header_fields


def run_job(work: Callable[[], dict[str, Any]], path: Path) -> int:
    """Do a Job's work and write its report; return 0 for a final result, 1 if a retry may help."""
    configure_logging("INFO")
    # Process 1 of a container ignores SIGTERM unless it has a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        report.write_report(report.result(work()), path)
    except LlamaHaloError as error:
        report.write_report(report.failure(error), path)
        return 0 if isinstance(error, report.FINAL_ERRORS) else 1
    return 0
