"""Real clients for tests, as their makers publish them: pinned, unpacked, never installed."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path

from hack.testbed.layout import CACHE
from hack.testbed.shell import run, say
from hack.testbed.tools import install_packages

CLAUDE_CODE = (
    "@anthropic-ai/claude-code-linux-x64",
    "2.1.331",
    "29aadf516e6d2779ee18e728d88499e89863c82aa12ab0372e472a22e6da2a26",
)
"""Package, version, and SHA-256 of its archive: one program that needs nothing else."""


def claude_code() -> Path:
    """Return the `claude` program."""
    return _package(*CLAUDE_CODE) / "claude"


def _package(name: str, version: str, sha256: str) -> Path:
    """Return the folder of a package of the npm registry, fetched and checked once."""
    folder = CACHE / "clients" / f"{name.rpartition('/')[2]}-{version}"
    if folder.exists():
        return folder
    if shutil.which("npm") is None:
        install_packages(("npm",))
    say(f"fetching {name} {version} (once)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        target = ("--pack-destination", temporary)
        run("npm", "pack", "--silent", *target, f"{name}@{version}", what=f"npm pack {name}")
        (archive,) = Path(temporary).glob("*.tgz")
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != sha256:
            raise RuntimeError(f"{name} {version}: SHA-256 {found}, not the pinned {sha256}")
        with tarfile.open(archive) as file:
            file.extractall(temporary, filter="data")
        (Path(temporary) / "package").rename(folder)
    return folder
