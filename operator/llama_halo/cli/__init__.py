"""The `llama-halo` command: one module per subcommand, imported only when it runs."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from llama_halo import __version__
from llama_halo.contract.text import printable
from llama_halo.errors import LlamaHaloError

COMMANDS = {
    "operator": "run the operator (in a cluster, or against KUBECONFIG)",
    "gateway": "run the gateway of one ModelRouter",
    "status": "show models, routers, nodes and recent events; -w: live",
    "chat": "talk to a model or through a router",
    "wake": "load a model now, and wait until it serves",
    "sleep": "unload a model that nobody uses",
    "logs": "show the logs of the pods of a model or router",
    "estimate": "show how much memory a model needs, from its file's header",
    "node-agent": "publish a node's machine data and GPU memory budget",
    "doctor": "find problems of a Strix Halo machine, and how to fix them",
    "env": "print the settings that a client needs to use a router",
    "catalog": "list models for Strix Halo as resources, and what fits together",
    "import": "convert files of llama-swap, LiteLLM, Claude Code Router and others to resources",
    "inspect": "read the header of a source (a Job runs this)",
    "fetch": "download and verify a model (a Job runs this)",
    "store": "list a store of model files, remove what no model uses",
    "crds": "print or write the CustomResourceDefinitions",
}

_MODULES = {"import": "import_config"}
"""Modules of commands whose names are Python keywords."""


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    parser = argparse.ArgumentParser(prog="llama-halo")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        commands.add_parser(name, help=help_text, add_help=False)
    arguments, rest = parser.parse_known_args(argv)
    name = _MODULES.get(arguments.command, arguments.command.replace("-", "_"))
    command = import_module(f"llama_halo.cli.{name}")
    try:
        return int(command.run(rest))
    except LlamaHaloError as error:
        print(printable(f"llama-halo {arguments.command}: {error}"), file=sys.stderr)
        return 1
