"""etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and kwok, as plain processes."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path

from hack.testbed import processes
from hack.testbed.layout import SERVICE_NETWORK, Layout
from hack.testbed.shell import TestbedError, run, say, succeeds, wait_until
from hack.testbed.tools import kwok_stages

# Reads and writes of everyone but the control plane's own parts, which would drown the rest.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {
            "level": "None",
            "users": [
                "system:apiserver",
                "system:kube-controller-manager",
                "system:kube-scheduler",
                "system:kube-proxy",
                "testbed-admin",
                "coredns",
                "kwok",
            ],
        },
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {"level": "Metadata"},
    ],
}


PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def start(layout: Layout, tools: Path) -> None:
    """Start the control plane and wait until the API server is ready; no-op where it runs."""
    if all(processes.alive(layout, name) for name in PROGRAMS):
        return
    _check_ports(layout)
    started = time.monotonic()
    _link_kubectl(layout, tools)
    _etcd(layout)
    _apiserver(layout, tools)
    _controllers(layout, tools)
    wait_until(
        lambda: succeeds(*kubectl(layout), "get", "serviceaccount", "default"),
        seconds=60,
        description="the default ServiceAccount",
        log=processes.log_of(layout, "kube-controller-manager"),
    )
    say(f"control plane ready at {layout.server} in {time.monotonic() - started:.1f} s")


def start_kwok(layout: Layout, tools: Path, *, nodes: int) -> None:
    """Start kwok, which plays the kubelet of fake nodes, and make `nodes` of them."""
    stages = kwok_stages()
    processes.start(
        layout,
        "kwok",
        [
            tools / "kwok",
            f"--kubeconfig={layout.pki / 'kwok.kubeconfig'}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            f"--server-address=127.0.0.1:{layout.ports.kwok}",
            *(f"--config={stage}" for stage in stages),
        ],
    )
    listing = {"apiVersion": "v1", "kind": "List", "items": [_fake_node(i) for i in range(nodes)]}
    run(*kubectl(layout), "apply", "-f", "-", stdin=json.dumps(listing), description="fake nodes")
    say(f"{nodes} fake nodes")


def restart_controllers(layout: Layout, tools: Path) -> None:
    """Start the controllers anew: the garbage collector learns of new CRDs only every 30 s."""
    for name in ("kube-controller-manager", "kube-scheduler"):
        processes.stop(layout, name)
    _controllers(layout, tools)


def kubectl(layout: Layout) -> tuple[str, ...]:
    """Return kubectl and its options for this testbed."""
    return (str(layout.kubectl), "--kubeconfig", str(layout.kubeconfig))


def _etcd(layout: Layout) -> None:
    ports = layout.ports
    processes.start(
        layout,
        "etcd",
        [
            shutil.which("etcd") or "/usr/bin/etcd",
            f"--data-dir={layout.directory / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{ports.etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{ports.etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{ports.etcd_peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{ports.etcd_peer}",
            f"--initial-cluster=default=http://127.0.0.1:{ports.etcd_peer}",
            "--unsafe-no-fsync",
        ],
        env={"ETCD_UNSUPPORTED_ARCH": "arm64"},
    )


def _apiserver(layout: Layout, tools: Path) -> None:
    pki = layout.pki
    policy = layout.directory / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY, indent=2))
    processes.start(
        layout,
        "kube-apiserver",
        [
            tools / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{layout.ports.etcd}",
            f"--bind-address={layout.address}",
            f"--advertise-address={layout.address}",
            f"--secure-port={layout.ports.apiserver}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
            # Without it `kubectl logs` looks the node's name up in DNS and fails.
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'service-accounts.key'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            # Debian's etcd 3.4 cannot serve streamed lists: told so, clients list as before;
            # otherwise they try again with longer and longer pauses.
            "--feature-gates=WatchList=false",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={layout.audit_log}",
        ],
    )
    wait_until(
        lambda: succeeds(*kubectl(layout), "get", "--raw", "/readyz"),
        seconds=90,
        description="the API server",
        log=processes.log_of(layout, "kube-apiserver"),
    )


def _controllers(layout: Layout, tools: Path) -> None:
    pki = layout.pki
    processes.start(
        layout,
        "kube-controller-manager",
        [
            tools / "kube-controller-manager",
            f"--kubeconfig={pki / 'controller-manager.kubeconfig'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={layout.ports.controller_manager}",
            # The default client limits make it lag for minutes behind a thousand Deployments.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            # kwok's heartbeats come late on a busy machine, and no fake node is ever really lost.
            *(() if layout.node else ("--node-monitor-grace-period=5m",)),
        ],
    )
    processes.start(
        layout,
        "kube-scheduler",
        [
            tools / "kube-scheduler",
            f"--kubeconfig={pki / 'scheduler.kubeconfig'}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={layout.ports.scheduler}",
        ],
    )


def _link_kubectl(layout: Layout, tools: Path) -> None:
    layout.binaries.mkdir(parents=True, exist_ok=True)
    layout.kubectl.unlink(missing_ok=True)
    layout.kubectl.symlink_to(tools / "kubectl")


def _check_ports(layout: Layout) -> None:
    for name, port in vars(layout.ports).items():
        if processes.alive(layout, name.replace("_", "-")):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((layout.address if name == "apiserver" else "127.0.0.1", port))
            except OSError as error:
                if processes.running(layout):
                    continue
                raise TestbedError(
                    f"port {port} ({name}) is taken: {error.strerror}. Stop what listens there"
                    " (`ss -tlnp` names it), or take other ports with --free-ports."
                ) from error


def _fake_node(index: int) -> dict[str, object]:
    name = f"fake-{index}"
    capacity = {"cpu": "32", "memory": "125Gi", "pods": "250"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "llama-halo.dev/strix-halo": "true",
            },
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    }
