"""Renders the chart with real Helm."""

from __future__ import annotations

import pytest

from hack.testbed import tools
from tests.support.helm import Helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tools.build(tools.HELM) / "helm", tmp_path_factory.mktemp("helm"))
