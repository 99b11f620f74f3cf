"""Real coding agents, run once without a terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hack.testbed.clients import claude_code

SECONDS = 600


def run(*arguments: str | Path, home: Path, **environment: str) -> str:
    """Run an agent in a home of its own, with nothing of our environment; return all that it
    says."""
    ours = {"PATH": os.environ["PATH"], "HOME": str(home), "IS_SANDBOX": "1"}
    done = subprocess.run(
        arguments,
        env={**ours, **environment},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def claude(url: str, *arguments: str, home: Path, key: str = "none", **environment: str) -> str:
    """Ask Claude Code through a router; return what it says."""
    router = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key, "DISABLE_AUTOUPDATER": "1"}
    return run(claude_code(), "-p", *arguments, home=home, **{**router, **environment})
