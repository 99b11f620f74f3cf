"""Fail when a generated file differs from what its source generates now.

(The plain manifests need Helm: tests/chart compares them.)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from hack import api_table
from hack.manifests import CHART_CRDS
from llama_halo.cli import crds

CRDS = Path(__file__).resolve().parents[1] / "crds"


def main() -> int:
    """Compare crds/ and the chart's copies with a fresh generation."""
    with tempfile.TemporaryDirectory() as folder:
        crds.run([folder])
        fresh = {path.name: path.read_text() for path in Path(folder).iterdir()}
    stale = []
    for folder in (CRDS, CHART_CRDS):
        committed = {path.name: path.read_text() for path in folder.glob("*.yaml")}
        names = sorted(fresh | committed)
        stale += [folder / name for name in names if fresh.get(name) != committed.get(name)]
    if not api_table.PATH.exists() or api_table.PATH.read_text() != api_table.render():
        stale.append(api_table.PATH)
    for path in stale:
        print(f"{path} is not what its source generates: run `make manifests`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
