"""`llama-halo node-agent`: publish this node's machine data and its GPU memory budget."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from pathlib import Path

from llama_halo.api_server import ApiServer
from llama_halo.health import serve_health
from llama_halo.logs import configure_logging
from llama_halo.node_agent.agent import AgentMetrics, MachinePoller, NodeWriter


def run(argv: list[str]) -> int:
    """Run the node agent until SIGTERM or SIGINT."""
    arguments = _parser().parse_args(argv)
    configure_logging(arguments.log_level.upper())
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    server = ApiServer(arguments.api_server, arguments.ca_file, arguments.token_file)
    metrics = AgentMetrics(arguments.node)
    watch = MachinePoller(arguments.root, NodeWriter(server, arguments.node), metrics)
    health = await serve_health(
        arguments.port,
        registry=metrics.registry,
        stuck_seconds=lambda: watch.stuck_seconds,
        not_ready=lambda: "",
    )
    watching = asyncio.create_task(watch.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()  # it does not return: raise its exception
    finally:
        for task in (watching, stopping):
            task.cancel()
        await asyncio.gather(watching, stopping, return_exceptions=True)
        await health.cleanup()


def _parser() -> argparse.ArgumentParser:
    pod = ApiServer()
    parser = argparse.ArgumentParser(prog="llama-halo node-agent")
    parser.add_argument(
        "--node",
        default=os.environ.get("NODE_NAME") or socket.gethostname(),
        help="the Node's name",
    )
    parser.add_argument("--root", type=Path, default=Path("/"), help="where sys, proc and dev are")
    parser.add_argument("--port", type=int, default=8080, help="/metrics, /healthz")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--api-server", default=pod.url, help="URL; default: the pod's cluster")
    parser.add_argument("--ca-file", type=Path, default=pod.certificate_authority)
    parser.add_argument("--token-file", type=Path, default=pod.token)
    return parser
