"""The three clusters that the demo and the e2e tests can use, behind one interface.

`testbed` is this package's own node, `kind` a kind cluster on a machine with Docker, `current`
whatever KUBECONFIG points to (its nodes must get the images and the model by themselves).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from hack.testbed import certificates, control_plane, images, node, processes, tools
from hack.testbed.layout import (
    DEFAULT_DIRECTORY,
    NODE_NAME,
    NODE_RUN,
    NODE_STATE,
    Layout,
    Ports,
)
from hack.testbed.shell import TestbedError, require_root, run, say, succeeds

KIND_NAME = "llama-halo"


class Cluster(Protocol):
    """A cluster with one node that can take the model pods."""

    @property
    def kubeconfig(self) -> Path: ...
    @property
    def kubectl(self) -> Path: ...
    def up(self) -> None: ...
    def down(self) -> None: ...
    def load_image(self, name: str) -> None: ...
    def install_model(self, name: str) -> None: ...


class Testbed:
    """The control plane on this machine, alone or with the one real node."""

    __test__ = False

    def __init__(
        self,
        directory: Path = DEFAULT_DIRECTORY,
        *,
        with_node: bool = True,
        ports: Ports | None = None,
        fake_nodes: int = 0,
    ) -> None:
        self.directory = directory.resolve()
        self.with_node = with_node
        self.fake_nodes = fake_nodes
        saved = Layout.load(self.directory)
        self.layout = saved or Layout(
            directory=self.directory, ports=ports or Ports(), node=with_node
        )

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def kubectl(self) -> Path:
        return self.layout.kubectl

    def up(self) -> None:
        """Bring up what is not; build the programs first when the cache lacks them."""
        if self.layout.node != self.with_node:
            have, want = ("with", "without") if self.layout.node else ("without", "with")
            raise TestbedError(
                f"{self.directory} holds a testbed {have} a node and you ask for one {want}:"
                f" run `python -m hack.testbed down --dir {self.directory}` first"
            )
        if self.with_node:
            require_root("a real node (containerd, kubelet, pod network)")
        tools.install_packages(
            tools.CONTROL_PLANE_PACKAGES + (tools.NODE_PACKAGES if self.with_node else ())
        )
        kubernetes = tools.build(tools.KUBERNETES)
        if self.with_node:
            self._refuse_second_node()
            coredns = tools.build(tools.COREDNS)
        self.layout.save()
        if self.with_node:
            node.prepare_network()
        certificates.make(self.layout)
        control_plane.start(self.layout, kubernetes)
        if self.with_node:
            node.start(self.layout, kubernetes, coredns)
            images.load(node.PAUSE_IMAGE)
        if self.fake_nodes:
            control_plane.start_kwok(self.layout, tools.build(tools.KWOK), nodes=self.fake_nodes)

    def add_fake_nodes(self, nodes: int) -> None:
        """Have kwok play nodes beside what is there."""
        control_plane.start_kwok(self.layout, tools.build(tools.KWOK), nodes=nodes)

    def down(self) -> None:
        """Leave no process, mount, interface, namespace or file of this testbed behind."""
        owner = NODE_STATE / "owner"
        if self.layout.node and owner.exists() and owner.read_text() != str(self.directory):
            say(f"this machine's node belongs to the testbed in {owner.read_text()} and stays")
        elif self.layout.node:
            require_root("taking the node away")
            images.remove_models()
            node.remove(self.layout)
        for name in ("kwok", *reversed(control_plane.PROGRAMS)):
            processes.stop(self.layout, name)
        processes.end_strays(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def status(self) -> str:
        """Return a line for each process and one for the address."""
        if not Layout.load(self.directory):
            return f"no testbed in {self.directory}"
        lines = [f"{name}: running" for name in processes.running(self.layout)]
        return "\n".join([*lines, f"server: {self.layout.server}", f"KUBECONFIG={self.kubeconfig}"])

    def load_image(self, name: str) -> None:
        images.load(name)

    def install_model(self, name: str) -> None:
        images.install_model(name)

    def _refuse_second_node(self) -> None:
        owner = NODE_STATE / "owner"
        if owner.exists() and owner.read_text() != str(self.directory):
            raise TestbedError(
                f"this machine's one node belongs to the testbed in {owner.read_text()}:"
                f" run `python -m hack.testbed down --dir {owner.read_text()}` first"
            )
        for folder in (NODE_STATE, NODE_RUN):
            folder.mkdir(parents=True, exist_ok=True)
        owner.write_text(str(self.directory))


class Kind:
    """A kind cluster, for machines that have Docker and kind."""

    def __init__(self) -> None:
        for program in ("docker", "kind", "kubectl"):
            if shutil.which(program) is None:
                raise TestbedError(f"--cluster kind needs {program} on PATH")
        self.kubeconfig = DEFAULT_DIRECTORY / "kind.kubeconfig"
        self.kubectl = Path(shutil.which("kubectl") or "")
        self._node = f"{KIND_NAME}-control-plane"

    def up(self) -> None:
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if KIND_NAME not in run("kind", "get", "clusters").split():
            say("creating the kind cluster")
            run("kind", "create", "cluster", "--name", KIND_NAME, "--wait", "180s")
        self.kubeconfig.write_text(run("kind", "get", "kubeconfig", "--name", KIND_NAME))
        run(
            *(self.kubectl, "--kubeconfig", self.kubeconfig, "label", "node", "--all"),
            *("--overwrite", "llama-halo.dev/strix-halo=true"),
        )
        script = (
            "mkdir -p /dev/dri; test -e /dev/kfd || mknod -m 666 /dev/kfd c 1 3;"
            " test -e /dev/dri/renderD128 || mknod -m 666 /dev/dri/renderD128 c 1 3"
        )
        run("docker", "exec", self._node, "sh", "-c", script, description="stand-in devices")

    def down(self) -> None:
        run("kind", "delete", "cluster", "--name", KIND_NAME)

    def load_image(self, name: str) -> None:
        recipe, context, arguments = images.docker_recipe(name)
        command = (*arguments, "-t", name, "-f", recipe, context)
        run("docker", "build", *command, description=f"building {name}")
        run("kind", "load", "docker-image", name, "--name", KIND_NAME)

    def install_model(self, name: str) -> None:
        folder = node.MODEL_STORE / name
        run("docker", "exec", self._node, "mkdir", "-p", folder)
        run("docker", "cp", images.model_path(name), f"{self._node}:{folder}/")


class Current:
    """Whatever cluster KUBECONFIG points to; nothing is started, built or removed there."""

    def __init__(self) -> None:
        config = os.environ.get("KUBECONFIG")
        if not config or not Path(config).exists():
            raise TestbedError("--cluster current needs KUBECONFIG to name a kubeconfig file")
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise TestbedError("--cluster current needs kubectl on PATH")
        self.kubeconfig = Path(config)
        self.kubectl = Path(kubectl)

    def up(self) -> None:
        if not succeeds(self.kubectl, "--kubeconfig", self.kubeconfig, "get", "nodes"):
            raise TestbedError(f"the cluster of {self.kubeconfig} does not answer")

    def down(self) -> None:
        say("the current cluster is not ours: nothing to take down")

    def load_image(self, name: str) -> None:
        say(f"the nodes must be able to get {name} by themselves")

    def install_model(self, name: str) -> None:
        say(f"{images.model_path(name)} must lie in {node.MODEL_STORE}/{name} on a node")


def choose(name: str) -> Cluster:
    """Return the cluster that `--cluster NAME` means."""
    if name == "testbed":
        return Testbed()
    if name == "kind":
        return Kind()
    if name == "current":
        return Current()
    raise TestbedError(f"unknown cluster {name!r}: choose testbed, kind or current")


__all__ = ["NODE_NAME", "Cluster", "Current", "Kind", "Testbed", "choose"]
