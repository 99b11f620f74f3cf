"""Puts into the cache what the tiers need: programs, models, clients and images.

Each is built or downloaded once; `make test` does it beside the tiers that can run without it.
"""

from __future__ import annotations

from collections.abc import Callable

from hack.testbed import clients, flux, images, llama_memory, llama_server, minilm, tools, whisper


def _kubernetes() -> None:
    tools.install_packages(tools.CONTROL_PLANE_PACKAGES)
    tools.build(tools.KUBERNETES)


def _kwok() -> None:
    tools.build(tools.KWOK)
    tools.kwok_stages()


def _helm() -> None:
    tools.build(tools.HELM)


def _node() -> None:
    tools.install_packages(tools.NODE_PACKAGES)
    tools.build(tools.COREDNS)


def _flux() -> None:
    tools.build(tools.FLUX)
    flux.crds()


def _speech() -> None:
    whisper.binary()


def _agents() -> None:
    for client in (
        clients.claude_code,
        clients.codex,
        clients.opencode,
        clients.qwen_code,
    ):
        client()


def _browser() -> None:
    clients.chromium()


def _images() -> None:
    tools.install_packages(tools.NODE_PACKAGES)
    for name in images.built_here():
        images.build(name)


NEEDS: dict[str, Callable[[], object]] = {
    "kubernetes": _kubernetes,
    "llama_server": llama_server.binary,
    "kwok": _kwok,
    "agents": _agents,
    "helm": _helm,
    "llama_memory": llama_memory.binary,
    "browser": _browser,
    "node": _node,
    "minilm": minilm.model_file,
    "speech": _speech,
    "images": _images,
    "flux": _flux,
}
"""By name, in the order in which they are begun: what most tiers wait for comes first."""
