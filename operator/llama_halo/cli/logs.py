"""`llama-halo logs NAME`: show the logs of a model's or router's pods, by kubectl."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess

from llama_halo.contract.labels import FILES_OF, MODEL, ROUTER
from llama_halo.errors import CliError
from llama_halo.kube.client import current_namespace

OF = {"server": f"{MODEL}={{}}", "router": f"{ROUTER}={{}}", "files": f"{FILES_OF}={{}}"}


def run(argv: list[str]) -> int:
    """Run `kubectl logs`, and return its exit status."""
    arguments = _parser().parse_args(argv)
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise CliError("kubectl is not on PATH: install it (this command runs kubectl logs)")
    selector = OF[arguments.of].format(arguments.name)
    command = [
        *(kubectl, "logs", "--namespace", arguments.namespace, "--selector", selector),
        *("--all-containers", "--prefix", "--tail", str(arguments.tail)),
        *(("--follow",) if arguments.follow else ()),
    ]
    return subprocess.run(command, check=False, env=os.environ).returncode  # noqa: S603


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-halo logs", description=__doc__)
    parser.add_argument("name", help="a LlamaModel, or a ModelRouter with --of router")
    parser.add_argument(
        "--of",
        choices=sorted(OF),
        default="server",
        help="server: llama-server of a model; files: the Jobs that read and fetch it; router",
    )
    parser.add_argument("-n", "--namespace", default=current_namespace())
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("--tail", type=int, default=100, metavar="LINES")
    return parser
