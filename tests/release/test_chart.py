"""The chart and its CRDs in a real control plane, whichever `make release-check` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack import chart
from hack.testbed.cluster import Testbed
from tests.support.api import Api, eventually
from tests.support.golden import cases, load

pytestmark = pytest.mark.timeout(1800)
WHAT = ("--namespace", chart.NAMESPACE, "--create-namespace")


def _install(plane: Testbed, archive: Path) -> None:
    more = ("--take-ownership", "--force-conflicts")
    chart.helm(plane, "upgrade", "--install", chart.RELEASE, archive, "--create-namespace", *more)


def test_the_chart_is_installed_upgraded_and_taken_away(
    control_plane: Testbed, tmp_path: Path
) -> None:
    api = Api(control_plane.kubeconfig)
    archive = chart.package(tmp_path)
    _install(control_plane, archive)
    before = chart.helm(control_plane, "get", "manifest", chart.RELEASE)
    _install(control_plane, archive)
    assert chart.helm(control_plane, "get", "manifest", chart.RELEASE) == before
    namespace = api.namespace("release")
    for path in cases():
        resource = load(path)
        resource["metadata"]["namespace"] = namespace
        resource["metadata"]["name"] = path.stem[:40].replace("_", "-").rstrip("-")
        api.apply(resource)
    chart.helm(control_plane, "uninstall", chart.RELEASE)
    kept = [crd["metadata"]["name"] for crd in api.list("CustomResourceDefinition", "")]
    assert {"llamamodels.llama-halo.dev", "modelrouters.llama-halo.dev"} <= set(kept)
    assert api.list("LlamaModel", namespace)
    api.delete("Namespace", "", namespace)
    eventually(lambda: not api.get("Namespace", "", namespace), seconds=60)
    api.close()
