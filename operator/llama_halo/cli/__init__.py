"""The `llama-halo` command: one module per subcommand, imported only when it is asked for."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from llama_halo import __version__
from llama_halo.errors import LlamaHaloError

COMMANDS = {
    "operator": "run the operator (in a cluster, or against KUBECONFIG)",
    "gateway": "run the gateway of one ModelRouter",
    "status": "models, routers, nodes and what happened, in one look; -w: live",
    "chat": "talk to a model or through a router",
    "wake": "load a model now, and wait until it serves",
    "sleep": "unload a model that nobody uses",
    "logs": "what the pods of a model or router say",
    "estimate": "how much memory a model needs, from its file's header",
    "node-agent": "publish what a node is and can hold",
    "doctor": "what is wrong with a Strix Halo machine, and how to mend it",
    "env": "what a client needs to use a router",
    "catalog": "models for Strix Halo as resources, and what fits together",
    "import": "the files of llama-swap, LiteLLM, Claude Code Router and others as resources",
    "inspect": "what a source is: a Job's work",
    "fetch": "download and verify a model: a Job's work",
    "store": "list a store of model files, remove what no model uses",
    "crds": "print or write the CustomResourceDefinitions",
}

_MODULES = {"import": "import_config"}
"""Of commands that Python has a word for."""


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
        print(f"llama-halo {arguments.command}: {error}", file=sys.stderr)
        return 1
