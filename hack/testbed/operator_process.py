"""The operator as a process of this machine, with the shipped permissions of its ServiceAccount."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from hack.testbed import control_plane, images, tools
from hack.testbed.cluster import Testbed
from hack.testbed.layout import REPOSITORY
from hack.testbed.ports import free_port
from hack.testbed.shell import TestbedError, run, tail

NAMESPACE = "llama-halo-system"
ACCOUNT = "llama-halo-operator"


def install(testbed: Testbed) -> None:
    """Install the CRDs and the operator's ServiceAccount and permissions."""
    kubectl = control_plane.kubectl(testbed.layout)
    run(*kubectl, "apply", "-f", REPOSITORY / "crds")
    run(*kubectl, "apply", "-f", REPOSITORY / "deploy/operator/namespace.yaml")
    run(*kubectl, "apply", "-f", REPOSITORY / "deploy/operator/rbac.yaml")
    run(*kubectl, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    control_plane.restart_controllers(testbed.layout, tools.build(tools.KUBERNETES))


def token(testbed: Testbed, account: str = ACCOUNT, namespace: str = NAMESPACE) -> str:
    """Return a token of the operator's ServiceAccount, as its pod would have."""
    kubectl = control_plane.kubectl(testbed.layout)
    arguments = ("create", "token", account, "--namespace", namespace, "--duration=8h")
    return run(*kubectl, *arguments).strip()


def write_kubeconfig(
    testbed: Testbed, path: Path, *, server: str = "", credentials: str = ""
) -> Path:
    """Write a kubeconfig of the operator, or with another account's credentials; `server` is
    another way to the API server."""
    return write_config(
        path,
        server=server or testbed.layout.server,
        authority=testbed.layout.pki / "ca.crt",
        token=credentials or token(testbed),
    )


def write_config(path: Path, *, server: str, authority: Path, token: str) -> Path:
    """Write a kubeconfig of one API server and one token."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": server, "certificate-authority": str(authority)}}
        ],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    path.write_text(json.dumps(config))
    return path


class OperatorProcess:
    """One run of `llama-halo operator`."""

    def __init__(self, kubeconfig: Path, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = log
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "LLAMA_HALO_IMAGE": images.OPERATOR_IMAGE,
            "LLAMA_HALO_POD_NAME": f"operator-{self.port}",
            "LLAMA_HALO_PORT": str(self.port),
            **settings,
        }
        command = [sys.executable, "-m", "llama_halo", "operator"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of one of its own pages."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def is_ready(self) -> bool:
        return self.why_not_ready() == ""

    def why_not_ready(self) -> str:
        """Return what `/readyz` says, nothing when it is ready."""
        try:
            status, text = self.get("/readyz")
        except OSError as error:
            return f"it does not answer: {error}"
        return "" if status == 200 else text

    def wait_ready(self, *, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if not self.running:
                raise TestbedError(
                    f"the operator ended with {self._process.returncode}:\n{tail(self.log)}"
                )
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"the operator is not ready after {seconds:.0f} s:\n{tail(self.log)}"
                )
            time.sleep(0.05)

    def signal(self, sign: signal.Signals) -> None:
        self._process.send_signal(sign)

    def stop(self) -> int:
        """End it as the kubelet would, and return its exit status."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait(timeout=30)

    def wait(self) -> int:
        return self._process.wait(timeout=30)

    def memory_mib(self, field: str = "VmRSS") -> float:
        """Return resident memory; `VmHWM` is the most that it ever was."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise TestbedError(f"no {field} of process {self.pid}")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
