"""kubectl for tests on a real node, and the periods in which refusals are expected."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from hack.demo import kubectl
from hack.testbed import audit
from hack.testbed.cluster import Cluster
from llama_halo.kube.resources import Resource
from tests.support.api import BY_KIND

NAMESPACE = "e2e"
Json = dict[str, Any]
NO_PERMISSIONS_PERIODS: list[tuple[str, str]] = []
"""From when to when the operator had no permissions, for a test took the release away."""
ROUTER_DELETION_PERIODS: list[tuple[str, str]] = []
"""From when a test deleted routers to when their pods had time to end."""
_GATEWAY_ENDS_SECONDS = 60


@contextmanager
def without_permissions() -> Iterator[None]:
    """Note that what is refused meanwhile is no fault of the operator's."""
    began = audit.now()
    yield
    NO_PERMISSIONS_PERIODS.append((began, audit.now()))


FLUX_RESOURCES = (
    Resource("Kustomization", "kustomize.toolkit.fluxcd.io/v1", "kustomizations"),
    Resource("ExternalArtifact", "source.toolkit.fluxcd.io/v1", "externalartifacts"),
)
RESOURCES = {
    name: resource
    for resource in (*BY_KIND.values(), *FLUX_RESOURCES)
    for name in (resource.kind.lower(), resource.plural)
}


class Kubectl:
    """kubectl against the cluster of the tests; what is polled is read through `kubectl proxy`,
    since each start of kubectl takes a tenth of a second of a core that the cluster needs."""

    def __init__(self, cluster: Cluster, proxy: str) -> None:
        self.cluster = cluster
        self._client = httpx.Client(base_url=proxy, timeout=30)

    def __call__(self, *arguments: str | Path) -> str:
        if arguments[0] == "delete" and "modelrouter" in str(arguments[1]):
            ended = datetime.now(UTC) + timedelta(seconds=_GATEWAY_ENDS_SECONDS)
            ROUTER_DELETION_PERIODS.append((audit.now(), audit.timestamp(ended)))
        return kubectl(self.cluster, "--namespace", NAMESPACE, *arguments)

    def get(self, target: str, *, namespace: str = NAMESPACE) -> Json:
        """Return an object that is named as kubectl does: KIND/NAME."""
        kind, _, name = target.partition("/")
        return self._read(RESOURCES[kind].path(namespace, name))

    def list(self, kind: str, selector: str = "") -> list[Json]:
        items: list[Json] = self._read(RESOURCES[kind].path(NAMESPACE), selector)["items"]
        return items

    def _read(self, path: str, selector: str = "") -> Json:
        answer = self._client.get(path, params={"labelSelector": selector} if selector else {})
        assert answer.status_code == httpx.codes.OK, f"{path}: {answer.text}"
        body: Json = answer.json()
        return body

    def close(self) -> None:
        self._client.close()

    def apply(self, obj: Json) -> None:
        """Apply as a person does, through kubectl's own client side."""
        arguments = [str(self.cluster.kubectl), "--kubeconfig", str(self.cluster.kubeconfig)]
        done = subprocess.run(
            [*arguments, "--namespace", NAMESPACE, "apply", "-f", "-"],
            input=json.dumps(obj),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def patch(self, target: str, patch: Json) -> None:
        self("patch", target, "--patch", json.dumps(patch))

    def wait_ready(self, *names: str, seconds: int = 120) -> None:
        self("wait", "--for=condition=Ready", *names, f"--timeout={seconds}s")

    def pod_uids(self, selector: str) -> set[str]:
        """Return the uids of the pods that are not on their way out."""
        items = self.list("pods", selector)
        return {
            item["metadata"]["uid"] for item in items if "deletionTimestamp" not in item["metadata"]
        }

    @contextmanager
    def forwarded(self, target: str) -> Iterator[str]:
        """Give a URL of a Service or pod; a forward goes to one pod and stays with it."""
        arguments = [str(self.cluster.kubectl), "--kubeconfig", str(self.cluster.kubeconfig)]
        with subprocess.Popen(
            [*arguments, "--namespace", NAMESPACE, "port-forward", target, ":8080"],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "Forwarding from" in line, line
            try:
                yield f"http://{line.split()[2]}"
            finally:
                process.terminate()


def rolled(kube: Kubectl, selector: str, old: set[str]) -> bool:
    """Tell whether the old pods are gone and new ones there."""
    now = kube.pod_uids(selector)
    return bool(now) and now.isdisjoint(old)
