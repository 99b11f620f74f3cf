"""Everything for real: the operator from its image in a cluster with a node, real models, pods."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hack import chart
from hack.demo import SAMPLES, kubectl
from hack.testbed import images
from hack.testbed.cluster import Cluster, Testbed, choose
from tests.support import failure_logs
from tests.support.api import eventually
from tests.support.kubectl import (
    NAMESPACE,
    Kubectl,
)


def _logs_of(cluster: Cluster) -> Path:
    """Return where a cluster's processes log; another one than the testbed keeps them itself."""
    return cluster.layout.logs if isinstance(cluster, Testbed) else Path("/nonexistent")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The chosen cluster; the testbed is taken down afterwards unless it was up before."""
    chosen = choose(request.config.getoption("--cluster"))
    ours = isinstance(chosen, Testbed) and not chosen.kubeconfig.exists()
    with failure_logs.saved_on_error(request.config, _logs_of(chosen)):
        chosen.up()
    for image in (images.OPERATOR_IMAGE, images.SERVER_IMAGE):
        chosen.load_image(image)
    chosen.install_model("smollm2")
    save = partial(failure_logs.save_cluster, chosen, (NAMESPACE, chart.NAMESPACE))
    with failure_logs.registered(request.config, save):
        yield chosen
    if ours:
        chosen.down()


@pytest.fixture(scope="session")
def proxy(cluster: Cluster) -> Iterator[str]:
    """The address of a `kubectl proxy`, which speaks for the cluster's administrator."""
    arguments = (str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "proxy", "--port=0")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "Starting to serve" in line, line
        yield f"http://{line.split()[-1]}"
        process.terminate()


@pytest.fixture(scope="session")
def kube(cluster: Cluster, proxy: str) -> Iterator[Kubectl]:
    """kubectl, with the operator installed from its chart, and an empty namespace."""
    chart.install(cluster)
    # The demo's own resources would share the node's two cores with ours.
    kubectl(cluster, "delete", "--ignore-not-found", "-f", SAMPLES)
    kubectl(cluster, "delete", "namespace", NAMESPACE, "--ignore-not-found")
    kubectl(cluster, "create", "namespace", NAMESPACE)
    client = Kubectl(cluster, proxy)
    yield client
    # A namespace whose pods are still ending is looked at again after half of their grace: 5 min.
    client("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    eventually(lambda: not client("get", "pods", "-o", "name").split(), seconds=60)
    kubectl(cluster, "delete", "namespace", NAMESPACE, "--wait=false")
    client.close()
