"""`make demo`: from nothing to a real model that answers through a router; `make demo-down`.

Each step is timed, and the times are printed at the end. What is up already is left as it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.testbed import images
from hack.testbed.cluster import Cluster, choose
from hack.testbed.layout import REPOSITORY
from hack.testbed.shell import TestbedError, run, say

SAMPLES = REPOSITORY / "deploy" / "samples" / "demo"
LOCAL_PORT = 18081
QUESTION = "What is 2+2?"


def main() -> int:
    """Run `up` or `down`; a `TestbedError` becomes one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m hack.demo", description=__doc__)
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--cluster", default="testbed", choices=["testbed", "kind", "current"])
    arguments = parser.parse_args()
    try:
        cluster = choose(arguments.cluster)
        if arguments.command == "down":
            _down(cluster, ours=arguments.cluster != "current")
        else:
            Demo(cluster).up()
    except TestbedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


class Demo:
    """The steps of the demo, with their times."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._times: list[tuple[str, float]] = []

    def up(self) -> None:
        """Do every step that is not done, and show the result."""
        with self._timed("cluster (tools built where the cache lacks them)"):
            self._cluster.up()
        with self._timed("images and model"):
            self._cluster.load_image(images.OPERATOR_IMAGE)
            self._cluster.load_image(images.SERVER_IMAGE)
            self._cluster.install_model("smollm2")
        with self._timed("operator"):
            install_operator(self._cluster)
        with self._timed("model and router ready"):
            self._kubectl("apply", "-f", SAMPLES)
            self._kubectl(
                *("wait", "--for=condition=Ready", "llamamodel/smollm2", "modelrouter/main"),
                "--timeout=300s",
            )
        print()
        self._show("get", "llamamodels,modelrouters")
        with self._timed("answers"), self._router() as url:
            self._ask(url, "Anthropic", "/v1/messages", {"max_tokens": 40})
            self._ask(url, "OpenAI", "/v1/chat/completions", {"max_tokens": 40})
        self._summary()

    def _ask(self, url: str, api: str, path: str, extra: dict[str, object]) -> None:
        """Ask the question and print the answer's words as they come."""
        body = {
            "model": "claude-sonnet-4-5",
            "stream": True,
            "temperature": 0,
            "messages": [{"role": "user", "content": QUESTION}],
            **extra,
        }
        print(f"\n{api} API, {path}, streamed: {QUESTION}")
        request = urllib.request.Request(  # noqa: S310
            url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "anthropic-version": "2023-06-01"},
        )
        token_count = 0
        try:
            with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
                for text in _texts(response):
                    print(text, end="", flush=True)
                    token_count += 1
        except urllib.error.HTTPError as error:
            answer = error.read().decode(errors="replace")
            raise TestbedError(f"the router answered {error.code}: {answer}") from error
        print()
        if not token_count:
            raise TestbedError(f"the {api} API answered without any text")

    @contextmanager
    def _router(self) -> Iterator[str]:
        """Give the address of the router's Service, from this machine."""
        forward = subprocess.Popen(
            [
                *(str(self._cluster.kubectl), "--kubeconfig", str(self._cluster.kubeconfig)),
                *("port-forward", "service/main-router", f"{LOCAL_PORT}:8080"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            if forward.stdout is None or not forward.stdout.readline():
                raise TestbedError("kubectl port-forward to service/main-router ended at once")
            yield f"http://127.0.0.1:{LOCAL_PORT}"
        finally:
            forward.terminate()
            forward.wait()

    def _summary(self) -> None:
        total = sum(seconds for _, seconds in self._times)
        print(f"\nDone in {total:.0f} s:")
        for name, seconds in self._times:
            print(f"  {seconds:6.1f} s  {name}")
        kubectl = self._cluster.kubectl
        print(
            f"\nThe cluster goes on running. To look around:\n"
            f"  export KUBECONFIG={self._cluster.kubeconfig}\n"
            f"  {kubectl} get llamamodels\n"
            f"  {kubectl} port-forward service/main-router 8080:8080\n"
            f"  ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_AUTH_TOKEN=none claude\n"
            f"`make demo-down` takes everything away."
        )

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        say(name)
        yield
        self._times.append((name, time.monotonic() - started))

    def _kubectl(self, *arguments: str | Path) -> str:
        return kubectl(self._cluster, *arguments)

    def _show(self, *arguments: str) -> None:
        print(f"$ kubectl {' '.join(arguments)}")
        print(self._kubectl(*arguments), end="", flush=True)


def install_operator(cluster: Cluster) -> None:
    """Apply the CRDs and the plain manifests, and wait until the operator is ready."""
    kubectl(cluster, "apply", "-f", REPOSITORY / "crds")
    kubectl(
        cluster,
        *("wait", "--for=condition=Established", "--timeout=30s"),
        *("crd/llamamodels.llama-halo.dev", "crd/modelrouters.llama-halo.dev"),
    )
    kubectl(cluster, "apply", "-k", REPOSITORY / "deploy" / "operator")
    # The tag stays the same while the project changes: a new image rolls by its key.
    key = images.operator_key()
    patch = {"spec": {"template": {"metadata": {"annotations": {"testbed-key": key}}}}}
    namespace = ("-n", "llama-halo-system")
    name = "deployment/llama-halo-operator"
    # The demo and the tests download little, and may run on a disk that is nearly full.
    kubectl(cluster, *namespace, "set", "env", name, "LLAMA_HALO_STORE_RESERVE=1Gi")
    kubectl(cluster, *namespace, "patch", name, "--type=merge", "-p", json.dumps(patch))
    kubectl(cluster, *namespace, "rollout", "status", name, "--timeout=180s")


def kubectl(cluster: Cluster, *arguments: str | Path) -> str:
    """Run kubectl against a cluster and return its output."""
    return run(
        cluster.kubectl, "--kubeconfig", cluster.kubeconfig, *arguments, description="kubectl"
    )


def _down(cluster: Cluster, *, ours: bool) -> None:
    if not ours:
        # The operator and the CRDs may have been there before, with other people's resources.
        kubectl(cluster, "delete", "--ignore-not-found", "-f", SAMPLES)
        say("the demo's model and router are gone; the operator and the CRDs stay")
        return
    cluster.down()
    say("nothing of the demo is left")


def _texts(response: object) -> Iterator[str]:
    """Yield the pieces of text of either API's stream."""
    for line in response:  # type: ignore[attr-defined]
        text = line.decode().strip()
        if not text.startswith("data: {"):
            continue
        data = json.loads(text.removeprefix("data: "))
        if data.get("type") == "content_block_delta":
            yield data["delta"].get("text", "")
        for choice in data.get("choices", ()):
            if choice["delta"].get("content"):
                yield choice["delta"]["content"]


if __name__ == "__main__":
    sys.exit(main())
