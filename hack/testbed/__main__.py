"""`python -m hack.testbed up|down|status|load-image`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from hack.testbed import images
from hack.testbed.cluster import Testbed
from hack.testbed.layout import DEFAULT_DIRECTORY, Ports
from hack.testbed.shell import TestbedError, say


def main() -> int:
    """Run one command; a `TestbedError` becomes one message and exit status 1."""
    arguments = _parser().parse_args()
    try:
        return _dispatch(arguments)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1


def _dispatch(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    if arguments.command == "up":
        testbed = Testbed(
            arguments.dir,
            with_node=not arguments.control_plane_only,
            ports=Ports.free() if arguments.free_ports else None,
            fake_nodes=arguments.fake_nodes,
        )
        testbed.up()
        say(f"up in {time.monotonic() - started:.0f} s: export KUBECONFIG={testbed.kubeconfig}")
    elif arguments.command == "down":
        Testbed(arguments.dir).down()
        say(f"down in {time.monotonic() - started:.0f} s")
    elif arguments.command == "status":
        print(Testbed(arguments.dir).status())
    else:
        for name in arguments.image:
            images.load(name)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start what does not run")
    up.add_argument("--control-plane-only", action="store_true", help="no node; needs no root")
    up.add_argument("--free-ports", action="store_true", help="pick free ports, not the usual ones")
    up.add_argument("--fake-nodes", type=int, default=0, metavar="N", help="N nodes by kwok")
    down = commands.add_parser("down", help="stop everything and remove what it left")
    status = commands.add_parser("status", help="what runs, and where")
    load = commands.add_parser("load-image", help="build images and load them into the node")
    load.add_argument("image", nargs="+", help=f"{images.OPERATOR_IMAGE} or {images.SERVER_IMAGE}")
    for command in (up, down, status):
        command.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY)
    return parser


if __name__ == "__main__":
    sys.exit(main())
