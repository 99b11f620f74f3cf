"""`llama-halo status`: show models, routers, nodes and recent events; with -w, live."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from datetime import UTC, datetime

from llama_halo.cli.report import ClusterSnapshot, report, text
from llama_halo.contract.labels import MODEL
from llama_halo.contract.text import printable
from llama_halo.errors import CliError, ClusterError
from llama_halo.kube.client import REQUEST_ERRORS, KubeClient
from llama_halo.kube.events import CONTROLLER
from llama_halo.kube.resources import EVENT, LLAMAMODEL, MODELROUTER, NODE, POD

EVERY_SECONDS = 2
MAX_COLUMNS = 10_000
"""Width without a terminal: another program reads the output, so lines are not wrapped."""
_CLEAR, _HOME, _REST = "\033[2J", "\033[H", "\033[J"
_NO_CURSOR, _CURSOR = "\033[?25l", "\033[?25h"


def run(argv: list[str]) -> int:
    """Show the report once, or with --watch until Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        asyncio.run(_show(arguments))
    except KeyboardInterrupt:
        return 0
    return 0


async def _show(arguments: argparse.Namespace) -> None:
    cluster = await KubeClient.connect()
    try:
        if arguments.output == "json":
            print(json.dumps(report(await _read_snapshot(cluster, arguments.namespace)), indent=2))
        elif arguments.watch:
            await _watch(cluster, arguments.namespace)
        else:
            print(await _text(cluster, arguments.namespace))
    except (ClusterError, *REQUEST_ERRORS) as error:
        raise CliError(f"the request to the API server failed: {error}") from error
    finally:
        await cluster.close()


async def _watch(cluster: KubeClient, namespace: str | None) -> None:
    """Redraw the report in place, so that nothing flickers; a request that fails is retried."""
    sys.stdout.write(_CLEAR + _NO_CURSOR)
    try:
        while True:
            try:
                shown = await _text(cluster, namespace)
            except (ClusterError, *REQUEST_ERRORS) as error:
                shown = printable(f"the request to the API server failed: {error}")
            rows = shutil.get_terminal_size((160, 40)).lines - 1
            lines = f"{datetime.now():%H:%M:%S}\n{shown}".splitlines()[:rows]
            sys.stdout.write(_HOME + "".join(f"{line}\033[K\n" for line in lines) + _REST)
            sys.stdout.flush()
            await asyncio.sleep(EVERY_SECONDS)
    finally:
        sys.stdout.write(_CURSOR)


async def _text(cluster: KubeClient, namespace: str | None) -> str:
    columns = shutil.get_terminal_size((MAX_COLUMNS, 40)).columns if sys.stdout.isatty() else 0
    summary = report(await _read_snapshot(cluster, namespace))
    return printable(text(summary, now=datetime.now(UTC), columns=columns or MAX_COLUMNS))


async def _read_snapshot(cluster: KubeClient, namespace: str | None) -> ClusterSnapshot:
    """Return the cluster's objects. Nodes run the models of all namespaces, so they are left out
    if the user may not list nodes, or pods of all namespaces."""
    try:
        nodes, _ = await cluster.list(NODE, namespace=None)
        pods, _ = await cluster.list(POD, namespace=None, selector=MODEL)
    except ClusterError:
        nodes, pods = [], []
    models, _ = await cluster.list(LLAMAMODEL, namespace=namespace)
    routers, _ = await cluster.list(MODELROUTER, namespace=namespace)
    ours = f"reportingController={CONTROLLER}"
    events, _ = await cluster.list(EVENT, namespace=namespace, fields=ours)
    return ClusterSnapshot(models, routers, nodes, pods, events)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-halo status", description=__doc__)
    parser.add_argument("-n", "--namespace", help="one namespace; default: all")
    parser.add_argument("-w", "--watch", action="store_true", help="go on, until Ctrl-C")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser
