"""What each sample renders to, to the byte: a change here rolls users' pods and belongs in the
CHANGELOG. `GOLDEN_UPDATE=1 pytest tests/golden` writes the files anew; read the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from llama_halo.plan.outcome import Plan
from tests.support.golden import CASES, cases, load, plan


@pytest.mark.parametrize("path", cases(), ids=lambda path: path.stem)
def test_a_sample_renders_to_its_golden_objects(path: Path) -> None:
    outcome = plan(load(path))
    assert isinstance(outcome, Plan), outcome
    rendered = yaml.safe_dump_all(outcome.objects, sort_keys=False, width=100)
    golden = CASES / f"{path.stem}.golden.yaml"
    if os.environ.get("GOLDEN_UPDATE"):
        golden.write_text(rendered)
    assert rendered == golden.read_text()


def test_every_backend_has_every_device_access() -> None:
    stems = {path.stem for path in cases()}
    for backend in ("vulkan", "rocm"):
        for access in ("privileged", "resource", "claim"):
            assert f"model-{backend}-{access}" in stems
    assert "model-cpu" in stems
