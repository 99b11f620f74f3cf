"""The operator from its packaged Helm chart, in any cluster."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hack.manifests import CHART
from hack.testbed import images, tools
from hack.testbed.cluster import Cluster
from hack.testbed.shell import run

RELEASE, NAMESPACE = "llama-halo", "llama-halo-system"


def package(folder: Path) -> Path:
    """Package the chart into a folder and return the archive."""
    run(tools.build(tools.HELM) / "helm", "package", CHART, "--destination", folder)
    (archive,) = folder.glob("llama-halo-*.tgz")
    return archive


def install(cluster: Cluster, values: dict[str, Any] | None = None) -> None:
    """Install or upgrade the release, and wait until the operator and the node agents are ready.

    Objects that `make demo` made by plain manifests become the release's.
    """
    # The tag stays the same while the project changes: a new image rolls by its key.
    ours = {
        "operator": {"podAnnotations": {"testbed-key": images.operator_key()}},
        # The tests download little, and may run on a disk that is nearly full.
        "settings": {"STORE_RESERVE": "1Gi"},
    }
    with tempfile.TemporaryDirectory() as folder:
        values_file = Path(folder) / "values.json"
        values_file.write_text(json.dumps(ours | (values or {})))
        helm(
            cluster,
            *("upgrade", "--install", RELEASE, package(Path(folder)), "--values", values_file),
            *("--create-namespace", "--take-ownership", "--force-conflicts"),
            *("--wait", "--timeout", "180s"),
        )


def helm(cluster: Cluster, *arguments: str | Path) -> str:
    """Run helm against a cluster and return its output."""
    program = tools.build(tools.HELM) / "helm"
    where = ("--kubeconfig", str(cluster.kubeconfig), "--namespace", NAMESPACE)
    return run(program, *arguments, *where, description="helm")
