"""Fail when a generated file differs from what its source generates now."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from llama_halo.cli import crds

CRDS = Path(__file__).resolve().parents[1] / "crds"


def main() -> int:
    """Compare crds/ with a fresh generation."""
    with tempfile.TemporaryDirectory() as folder:
        crds.run([folder])
        fresh = {path.name: path.read_text() for path in Path(folder).iterdir()}
    committed = {path.name: path.read_text() for path in CRDS.glob("*.yaml")}
    stale = sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))
    for name in stale:
        print(f"crds/{name} is not what operator/llama_halo/api generates: run `make crds`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
