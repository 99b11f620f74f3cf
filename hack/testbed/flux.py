"""Flux's kustomize-controller beside the testbed, and commits served to it.

source-controller cannot be built everywhere (modules that it needs are not to be had), so commits
are served on loopback, and an ExternalArtifact says where: the rest is real.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hack.testbed import control_plane, processes, tools
from hack.testbed.layout import Layout
from hack.testbed.shell import TestbedError, run, wait_until

NAMESPACE = "flux-system"
SOURCE = "llama-halo"
_SOURCE_CONTROLLER = "github.com/fluxcd/source-controller@v1.9.5"
_SOURCE_CONTROLLER_SUM = "h1:MFPyCodUi9hZIMaKDsC/rYbNoyzpvrAdrPVixj7W9F0="
_CONTROLLER = "github.com/fluxcd/kustomize-controller"
_HEALTH = "127.0.0.1:19440"


class Flux:
    """One kustomize-controller, and the repository that it applies."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._kubectl = control_plane.kubectl(layout)
        self._repository = folder / "repository"
        self._served = folder / "served"
        self._served.mkdir(parents=True)
        handler = partial(_Quiet, directory=str(self._served))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        run("git", "init", "--quiet", "--initial-branch=main", self._repository)

    def start(self) -> None:
        """Install Flux's CRDs and start the controller."""
        program = tools.build(tools.FLUX) / "kustomize-controller"
        for crd in crds():
            run(*self._kubectl, "apply", "--server-side", "-f", crd)
        run(*self._kubectl, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        namespace = json.dumps(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        run(*self._kubectl, "apply", "-f", "-", stdin=namespace)
        processes.start(
            self._layout,
            "kustomize-controller",
            [
                program,
                # The second one as docs/guides/flux.md says: a fix is not waited for.
                "--feature-gates=ExternalArtifact=true,CancelHealthCheckOnNewRevision=true",
                "--metrics-addr=127.0.0.1:0",
                f"--health-addr={_HEALTH}",
                "--requeue-dependency=1s",
            ],
            env={"KUBECONFIG": str(self._layout.kubeconfig), "RUNTIME_NAMESPACE": NAMESPACE},
        )
        log = processes.log_of(self._layout, "kustomize-controller")
        wait_until(
            lambda: "Starting workers" in log.read_text(errors="replace"),
            seconds=60,
            description="kustomize-controller",
            log=log,
        )

    def stop(self) -> None:
        """End the controller and the server."""
        processes.stop(self._layout, "kustomize-controller")
        self._server.shutdown()
        self._server.server_close()

    def commit(self, files: Mapping[str, str | None], message: str) -> float:
        """Commit files (None: remove), publish the commit, and return when that was."""
        for name, text in files.items():
            path = self._repository / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        git = ("git", "-C", self._repository, "-c", "user.name=t", "-c", "user.email=t@example.org")
        run(*git, "add", "--all")
        run(*git, "commit", "--quiet", "--allow-empty", "-m", message)
        commit = run(*git, "rev-parse", "HEAD").strip()
        archive = self._served / f"{commit}.tar.gz"
        run(*git, "archive", "--format=tar.gz", "--output", archive, commit)
        return self._publish(archive, commit)

    def _publish(self, archive: Path, commit: str) -> float:
        data = archive.read_bytes()
        source = {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "ExternalArtifact",
            "metadata": {"name": SOURCE, "namespace": NAMESPACE},
            "spec": {},
        }
        run(*self._kubectl, "apply", "-f", "-", stdin=json.dumps(source))
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "served"}
        status = {
            "artifact": {
                "path": archive.name,
                "url": f"http://127.0.0.1:{self._server.server_port}/{archive.name}",
                "revision": f"main@sha1:{commit}",
                "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
                "size": len(data),
                "lastUpdateTime": now,
            },
            "conditions": [{**ready, "lastTransitionTime": now}],
        }
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        target = ("-n", NAMESPACE, "patch", "externalartifact", SOURCE)
        run(*self._kubectl, *target, *patch)
        return time.monotonic()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


def crds() -> list[Path]:
    """Return the files of the CRDs: of the controller, and of the source that it is given."""
    source = tools.REPOSITORY / "hack" / "tools" / tools.FLUX.folder
    own = run("go", "list", "-m", "-f", "{{.Dir}}", _CONTROLLER, cwd=source).strip()
    module = json.loads(run("go", "mod", "download", "-json", _SOURCE_CONTROLLER, cwd=source))
    if module["Sum"] != _SOURCE_CONTROLLER_SUM:
        raise TestbedError(f"{_SOURCE_CONTROLLER} has sum {module['Sum']}, not the pinned one")
    bases = Path("config/crd/bases")
    return [
        Path(own) / bases / "kustomize.toolkit.fluxcd.io_kustomizations.yaml",
        Path(module["Dir"]) / bases / "source.toolkit.fluxcd.io_externalartifacts.yaml",
        *(
            Path(module["Dir"]) / bases / f"source.toolkit.fluxcd.io_{name}.yaml"
            for name in ("gitrepositories", "ocirepositories", "buckets")
        ),
    ]
