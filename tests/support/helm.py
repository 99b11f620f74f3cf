"""helm, and the objects that it renders from the chart."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from hack.manifests import CHART

Json = dict[str, Any]
# Kinds of which clusters without their operators know nothing.
APIS = ("llama-halo.dev/v1alpha1/LlamaModel", "monitoring.coreos.com/v1/PodMonitor")


class Helm:
    """helm, with values given as an object."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self._folder = program, folder

    def __call__(self, *arguments: str | Path, values: Json | None = None) -> tuple[int, str, str]:
        """Return the exit status, the output and the errors."""
        file = self._folder / "values.json"
        file.write_text(json.dumps(values or {}))
        supplied = ("--values", str(file)) if values is not None else ()
        done = subprocess.run(
            [str(self.program), *map(str, arguments), *supplied],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def render(self, values: Json | None = None, *, namespace: str = "halo") -> list[Json]:
        """Return the objects of a release `llama-halo`."""
        apis = [word for case in APIS for word in ("--api-versions", case)]
        arguments = ("template", "llama-halo", CHART, "--namespace", namespace, *apis)
        status, output, errors = self(*arguments, values=values or {})
        assert status == 0, errors
        return [document for document in yaml.safe_load_all(output) if document]
