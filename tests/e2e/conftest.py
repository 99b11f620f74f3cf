"""Everything for real: the operator from its image in a cluster with a node, real models, pods."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from hack import chart
from hack.demo import SAMPLES, kubectl
from hack.testbed import images, llama_server
from hack.testbed.cluster import Cluster, Testbed, choose
from llama_halo.kube.resources import Resource
from tests.support import failure_logs
from tests.support.api import BY_KIND, eventually

NAMESPACE = "e2e"
Json = dict[str, Any]


RIGHTLESS: list[tuple[str, str]] = []
"""From when to when the operator had no permissions, for a test took the release away."""
ROUTERLESS: list[tuple[str, str]] = []
"""From when a test deleted routers to when their pods had time to end."""
_GATEWAY_ENDS_SECONDS = 60


@contextmanager
def without_rights() -> Iterator[None]:
    """Note that what is refused meanwhile is no fault of the operator's."""
    began = _now()
    yield
    RIGHTLESS.append((began, _now()))


def _now() -> str:
    return _stamp(datetime.now(UTC))


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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
            ROUTERLESS.append((_now(), _stamp(ended)))
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


def smollm2(name: str, **spec: Any) -> Json:
    """Return a LlamaModel of the small model on the CPU."""
    base = {
        "source": {"local": {"path": f"smollm2/{llama_server.MODEL_FILE}"}},
        "backend": "CPU",
        "contextSize": 2048,
        "threads": 1,
        "promptCacheMiB": 0,
        "memory": {"host": "1Gi"},
        "image": images.SERVER_IMAGE,
        "command": ["llama-server"],
        "pod": {"resources": {"requests": {"cpu": "100m"}}},
        # It would share the node's two cores with what is tested.
        "verify": {"toolCalling": "Off"},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": {"name": name},
        "spec": {**base, **spec},
    }


def router(**spec: Any) -> Json:
    """Return a ModelRouter of two models."""
    base = {
        "models": [
            {"name": "one", "modelRef": {"name": "one"}, "aliases": ["claude-*"]},
            {"name": "two", "modelRef": {"name": "two"}},
        ],
        "routes": {"default": "one"},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "ModelRouter",
        "metadata": {"name": "main"},
        "spec": {**base, **spec},
    }


class Stream:
    """A stream that is read in the background, until it ends or is left."""

    def __init__(self, url: str, body: Json) -> None:
        self.lines: list[str] = []
        self.seconds = 0.0
        self.error: Exception | None = None
        self._url, self._body = url, body
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join(timeout=120)
        assert self.error is None, f"the stream was cut: {self.error!r}"

    def _read(self) -> None:
        started = time.monotonic()
        url = f"{self._url}/v1/messages"
        try:
            with httpx.stream("POST", url, json=self._body, timeout=60) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
                    self.seconds = time.monotonic() - started
                    if self._left.is_set():
                        return
            self.error = EOFError(f"it ended after {self.seconds:.0f} s: {self.lines[-3:]}")
        except httpx.HTTPError as error:
            self.error = error
