"""Paths, ports and addresses of a testbed, and the file that stores them."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hack.testbed.ports import free_port
from hack.testbed.shell import TestbedError

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION: str = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llama-halo"

# The real node exists once a machine: its sockets need short paths, its kubelet needs root.
NODE_NAME = "halo-1"
NODE_ADDRESS = "198.51.100.10"
NODE_INTERFACE = "halo0"
NODE_RUN = Path("/run/llama-halo-testbed")
NODE_STATE = Path("/var/lib/llama-halo-testbed")
# Set in a sandbox, which has all of the above for itself, but cgroups and the repository.
SANDBOX_VARIABLE = "LLAMA_HALO_TESTBED_SANDBOX"
SANDBOX = os.environ.get(SANDBOX_VARIABLE, "")
NODE_CGROUP = "llama-halo-testbed" + (f"-{SANDBOX}" if SANDBOX else "")
DEFAULT_DIRECTORY = REPOSITORY / (f".testbed-{SANDBOX}" if SANDBOX else ".testbed")
CONTAINERD_SOCKET = NODE_RUN / "containerd.sock"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"


@dataclass(frozen=True)
class Ports:
    """One TCP port for each process that listens."""

    apiserver: int = 16443
    etcd: int = 12379
    etcd_peer: int = 12380
    controller_manager: int = 10357
    scheduler: int = 10359
    kwok: int = 10347

    @classmethod
    def free(cls) -> Ports:
        """Pick ports that nothing listens on now, so that several control planes fit."""
        ports = set[int]()
        while len(ports) < len(fields(cls)):
            ports.add(free_port())
        return cls(*ports)


@dataclass(frozen=True)
class Layout:
    """One testbed: its directory, its ports, and whether it has the real node."""

    directory: Path
    ports: Ports
    node: bool

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def binaries(self) -> Path:
        return self.directory / "bin"

    @property
    def kubectl(self) -> Path:
        return self.binaries / "kubectl"

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def pids(self) -> Path:
        return self.directory / "pids"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.jsonl"

    @property
    def address(self) -> str:
        """The API server's address: the node's, which pods reach, or loopback without a node."""
        return NODE_ADDRESS if self.node else "127.0.0.1"

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.ports.apiserver}"

    @property
    def _state(self) -> Path:
        return self.directory / "testbed.json"

    def save(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._state.with_suffix(".part")
        unfinished.write_text(json.dumps({"ports": asdict(self.ports), "node": self.node}))
        unfinished.rename(self._state)

    @classmethod
    def load(cls, directory: Path) -> Layout | None:
        """Read what an earlier `up` wrote; None when there is no testbed in the directory."""
        state = directory / "testbed.json"
        if not state.exists():
            return None
        try:
            saved = json.loads(state.read_text())
            return cls(directory=directory, ports=Ports(**saved["ports"]), node=saved["node"])
        except (ValueError, KeyError, TypeError) as error:
            raise TestbedError(
                f"{state} cannot be read ({error}). Run `down`, then delete {directory}."
            ) from error
