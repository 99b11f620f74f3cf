"""The processes of Jobs: `llama-halo inspect` and `fetch`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.hub import Hub

Json = dict[str, Any]


class Job:
    """Runs `llama-halo inspect` and `fetch` as a container would."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder = folder
        self.hub = hub
        self.log = ""
        self.report = folder / "report"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        self.report.unlink(missing_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "llama_halo", *arguments, "--report", str(self.report)],
            env={**os.environ, "HF_ENDPOINT": self.hub.url, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, Json]:
        """Return exit status and last words."""
        self.log = process.communicate(timeout=120)[0]
        assert self.report.exists(), self.log
        return process.returncode, json.loads(self.report.read_bytes())

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, Json]:
        return self.end(self.start(*arguments, **environment))
