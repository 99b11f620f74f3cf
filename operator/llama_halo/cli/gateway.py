"""`llama-halo gateway`: run the data path of one ModelRouter."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

import uvloop
from pydantic import ValidationError

from llama_halo.api_server import ApiServer
from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.errors import CliError
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.dispatch.credentials import Credentials
from llama_halo.gateway.process import serve
from llama_halo.logs import configure_logging


def run(argv: list[str]) -> int:
    """Run the gateway until SIGTERM or SIGINT."""
    arguments = _parser().parse_args(argv)
    configure_logging(arguments.log_level.upper())
    uvloop.run(
        serve(
            _config(arguments.config),
            ApiServer(arguments.api_server, arguments.ca_file, arguments.token_file),
            pod=arguments.pod_name,
            host=arguments.host,
            port=arguments.port,
            admin_port=arguments.admin_port,
            grace_seconds=arguments.grace_seconds,
            keys=Keys(arguments.keys),
            credentials=Credentials(arguments.provider_keys),
        )
    )
    return 0


def _config(path: Path) -> GatewayConfig:
    try:
        return GatewayConfig.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise CliError(f"{path} cannot be used: {error}") from error


def _parser() -> argparse.ArgumentParser:
    pod = ApiServer()
    parser = argparse.ArgumentParser(prog="llama-halo gateway")
    parser.add_argument("--config", type=Path, required=True, help="gateway.json of the router")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--admin-port",
        type=int,
        metavar="PORT",
        help="of probes and metrics on every address, where models are for the pod itself alone",
    )
    parser.add_argument("--grace-seconds", type=float, default=590, help="for open requests")
    parser.add_argument(
        "--pod-name",
        default=os.environ.get("POD_NAME") or socket.gethostname(),
        help="what this gateway is called on the Leases of models",
    )
    parser.add_argument(
        "--keys", type=Path, metavar="FOLDER", help="of API keys, one a file; none: open to all"
    )
    parser.add_argument(
        "--provider-keys",
        type=Path,
        metavar="FOLDER",
        help="of providers' API keys, by their names",
    )
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--api-server", default=pod.url, help="URL; default: the pod's cluster")
    parser.add_argument("--ca-file", type=Path, default=pod.certificate_authority)
    parser.add_argument("--token-file", type=Path, default=pod.token)
    return parser
