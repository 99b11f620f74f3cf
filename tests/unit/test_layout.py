"""Rules of the tree that nothing else would notice being broken."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_source_root_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), "it would shadow stdlib `operator`"


def test_crds_are_small() -> None:
    for crd in (ROOT / "crds").glob("*.yaml"):
        assert len(crd.read_bytes()) < 96 * 1024, crd


def test_the_version_is_the_same_everywhere() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    manifest = (ROOT / "deploy/operator/operator.yaml").read_text()
    tags = re.findall(r"llama-halo/llama-halo:(\S+)", manifest)
    assert set(tags) == {version[1]}
