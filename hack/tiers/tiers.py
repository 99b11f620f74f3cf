"""The tiers of `make test`: what each runs, what it needs, and whether it waits for builds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hack.testbed.layout import REPOSITORY


@dataclass(frozen=True)
class Tier:
    """One process of tests."""

    name: str
    paths: tuple[str, ...]
    """Folders or files below the repository; a tier of files may end with its closing step."""
    needs: tuple[str, ...] = ()
    """What has to be in the cache before it starts: names of `prepare.NEEDS`."""
    random_order: bool = False
    node: bool = False
    """Whether it needs a node, and so a sandbox of its own on the testbed."""
    command: tuple[str, ...] = ()
    """What it runs when that is not pytest."""
    quick: bool = False
    """Whether `make quick` runs it, without the tests that are marked `slow`."""
    after_builds: bool = True
    """Whether it waits until nothing is built any more: it measures time, or races."""

    def needs_on(self, cluster: str) -> tuple[str, ...]:
        """Return what has to be in the cache for a run on `testbed`, `kind` or `current`."""
        if cluster == "testbed" or not self.node:
            return self.needs
        return tuple(need for need in self.needs if need not in _OF_THE_TESTBED)

    def arguments(self) -> list[str]:
        """Return the arguments of pytest that choose its tests."""
        return [*(("-p", "randomly") if self.random_order else ()), *self.paths]


_PLANE = ("kubernetes", "kwok")
_OF_THE_TESTBED = {*_PLANE, "node", "images"}
_CLIENT_MODULES = ("claude_code", "clients", "codex_tools", "soak", "ui")
_GATEWAY_MODULES = (
    *("conformance", "faults", "gateway", "hold", "pressure", "providers"),
    *("recordings", "reported_cases", "templates"),
)
_E2E = "tests/e2e/test_{}.py"
_NODE_NEEDS = (*_PLANE, *("node", "helm", "llama_server", "images"))


def _node_tier(name: str, *modules: str, needs: tuple[str, ...] = ()) -> Tier:
    """Return a part of the tests on a node; each part ends with what holds for all of them."""
    paths = (*(_E2E.format(module) for module in modules), "tests/e2e/closing.py")
    return Tier(name, paths, (*_NODE_NEEDS, *needs), node=True)


def _with_closing_step(folder: str) -> tuple[str, ...]:
    """Return a folder's modules and its closing step: of a folder and a file in it, pytest takes
    the folder alone."""
    modules = sorted((REPOSITORY / folder).glob("test_*.py"))
    return (*(str(path.relative_to(REPOSITORY)) for path in modules), f"{folder}/closing.py")


TIERS = (
    _node_tier(
        *("node-1", "chat_template", "e2e", "engines", "flux", "imports", "providers"),
        *("terminal", "updates"),
        needs=("agents", "minilm", "flux"),
    ),
    _node_tier(
        *("node-2", "agents", "failures", "files", "helm", "modes", "node", "on_demand"),
        needs=("agents", "minilm", "speech"),
    ),
    Tier(
        "clients",
        tuple(f"tests/gateway/test_{module}.py" for module in _CLIENT_MODULES),
        (*_PLANE, "llama_server", "agents", "browser"),
        random_order=True,
    ),
    Tier("chaos", ("tests/chaos",), _PLANE),
    Tier(
        "gateway",
        tuple(f"tests/gateway/test_{module}.py" for module in _GATEWAY_MODULES),
        (*_PLANE, "llama_server"),
        random_order=True,
        quick=True,
    ),
    Tier("component", _with_closing_step("tests/component"), (*_PLANE, "helm")),
    Tier("memory", ("tests/memory",), ("llama_server", "llama_memory"), after_builds=False),
    Tier("chart", ("tests/chart",), ("helm",), quick=True, after_builds=False),
    Tier("files", ("tests/files",), after_builds=False),
    Tier("check", (), command=("make", "check"), quick=True, after_builds=False),
    Tier("unit", ("tests/unit", "tests/golden"), random_order=True, quick=True, after_builds=False),
)
"""In order of preference when a tier can start: the longest first. The gateway's tier asserts the
tightest times and comes late, when the nodes are usually done."""

AT_ONCE = 3
"""Tiers that run at the same time on two cores; those on a node, which mostly wait, come on top."""


def tiers_of(paths: set[Path]) -> tuple[Tier, ...]:
    """Return the tiers that any of these test files belongs to."""
    return tuple(
        tier
        for tier in TIERS
        if any(
            path.is_relative_to(REPOSITORY / file_or_folder)
            for path in paths
            for file_or_folder in tier.paths
        )
    )
