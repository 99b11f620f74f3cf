"""Real Claude Code, once through a router."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hack.testbed.clients import claude_code


def claude(url: str, home: Path, model: str, key: str = "none") -> str:
    """Return what Claude Code prints when it asks for a model."""
    ours = {"PATH": os.environ["PATH"], "HOME": str(home), "IS_SANDBOX": "1"}
    ours |= {"ANTHROPIC_MODEL": model}
    done = subprocess.run(
        [claude_code(), "-p", "say hi", "--tools", "Read"],
        env={**ours, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
