"""The rivals of the gateway's bench, as their makers publish them, before the same stub."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import yaml

from hack.testbed import clients
from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.shell import run, say

PINS = REPOSITORY / "requirements" / "litellm.txt"


@dataclass(frozen=True)
class Rival:
    """How a router is started, and where it is ready to be asked."""

    command: tuple[str | Path, ...]
    environment: dict[str, str]
    health: str


def claude_code_router(version: str, home: Path, *, port: int, upstream: str, model: str) -> Rival:
    """Return Claude Code Router with one provider that speaks the Anthropic API, passed through."""
    provider = {
        "name": "stub",
        "api_base_url": f"{upstream}/v1/messages",
        "api_key": "none",
        "models": [model],
        "transformer": {"use": ["Anthropic"]},
    }
    config = {
        "HOST": "127.0.0.1",
        "PORT": port,
        "LOG": False,
        "NON_INTERACTIVE_MODE": True,
        "Providers": [provider],
        "Router": {"default": f"stub,{model}"},
    }
    folder = home / ".claude-code-router"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    arguments = (*clients.claude_code_router(version), "start")
    return Rival(arguments, {"HOME": str(home), "PATH": os.environ["PATH"]}, "/health")


def litellm(home: Path, *, port: int, upstream: str, model: str) -> Rival:
    """Return LiteLLM's proxy without a database, in an environment of its own."""
    parameters = {"model": f"anthropic/{model}", "api_base": upstream, "api_key": "none"}
    config = {"model_list": [{"model_name": model, "litellm_params": parameters}]}
    home.mkdir(parents=True)
    file = home / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    arguments = ("--config", file, "--host", "127.0.0.1", "--port", str(port))
    open_to_all = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # as the others
    environment = {**os.environ, "HOME": str(home), "LITELLM_LOG": "ERROR", **open_to_all}
    return Rival((_litellm(), *arguments), environment, "/health/liveliness")


def llama_swap(program: Path, home: Path, *, port: int, upstream: str, model: str) -> Rival:
    """Return llama-swap, which no registry has, with a model of a peer."""
    peer = {"proxy": upstream, "models": [model], "timeouts": {"responseHeader": 0}}
    pinned = {"strategy": "pin", "targets": [f"stub/{model}"]}
    config = {"logLevel": "warn", "captureBuffer": 0, "models": {}, "peers": {"stub": peer}}
    home.mkdir(parents=True)
    file = home / "config.yaml"
    file.write_text(json.dumps({**config, "selectors": {model: pinned}}))
    arguments = (program, "--config", file, "--listen", f"127.0.0.1:{port}")
    return Rival(arguments, {**os.environ, "HOME": str(home)}, "/health")


def _litellm() -> Path:
    """Return the `litellm` program, installed once."""
    key = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"litellm-{key}"
    program = folder / "bin" / "litellm"
    if not (folder / "ready").exists():
        say("installing LiteLLM (once, minutes)")
        venv.create(folder, clear=True, with_pip=True)
        arguments = ("--quiet", "--disable-pip-version-check", "--require-hashes", "-r", PINS)
        run(folder / "bin" / "pip", "install", *arguments, description="pip install litellm")
        (folder / "ready").touch()
    return program


def all_of_them(
    folder: Path, *, ports: dict[str, int], upstream: str, model: str, swap: Path | None
) -> dict[str, Rival]:
    """Return every rival by its name; their files are in a folder."""
    common = {"upstream": upstream, "model": model}
    swaps = folder / "llama-swap"
    return {
        **(
            {"llama-swap": llama_swap(swap, swaps, port=ports["llama-swap"], **common)}
            if swap
            else {}
        ),
        "ccr-1.0.73": claude_code_router(
            "1.0.73", folder / "ccr-1", port=ports["ccr-1.0.73"], **common
        ),
        "ccr-2.0.0": claude_code_router(
            "2.0.0", folder / "ccr-2", port=ports["ccr-2.0.0"], **common
        ),
        "litellm": litellm(folder / "litellm", port=ports["litellm"], **common),
    }
