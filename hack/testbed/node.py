"""The one real node: network, stand-in devices, containerd, kubelet, kube-proxy, CoreDNS.

`start` can be repeated after a crash half-way, and `remove` takes back everything that it can have
made, whether or not a state file tells of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import stat
import time
import urllib.request
from http import HTTPStatus
from pathlib import Path

from hack.testbed import control_plane, processes
from hack.testbed.layout import (
    CONTAINERD_SOCKET,
    NODE_ADDRESS,
    NODE_CGROUP,
    NODE_INTERFACE,
    NODE_NAME,
    NODE_RUN,
    NODE_STATE,
    POD_NETWORK,
    SERVICE_NETWORK,
    Layout,
)
from hack.testbed.shell import TestbedError, run, say, succeeds, wait_until

NETWORK = "testbed"
PAUSE_IMAGE = "localhost/pause:testbed"
MODEL_STORE = Path("/var/lib/llama-halo/models")
# Stand-ins for the GPU: like /dev/null, so that opening them works and does nothing.
DEVICES = (Path("/dev/kfd"), Path("/dev/dri/renderD128"))
KUBELET_HEALTH = "http://127.0.0.1:10248/healthz"
_MADE = NODE_STATE / "made"
_CGROUPS = Path("/sys/fs/cgroup")


def prepare_network() -> None:
    """Make the interface that carries the node's address; loopback is refused as one."""
    if not succeeds("ip", "link", "show", NODE_INTERFACE):
        run("ip", "link", "add", NODE_INTERFACE, "type", "bridge", description="node interface")
    if NODE_ADDRESS not in run("ip", "-o", "addr", "show", NODE_INTERFACE):
        run(
            "ip",
            "addr",
            "add",
            f"{NODE_ADDRESS}/32",
            "dev",
            NODE_INTERFACE,
            description="node address",
        )
    run("ip", "link", "set", NODE_INTERFACE, "up")
    # Service addresses need a route before kube-proxy's rules see them; a sandbox has no default.
    service_route = (SERVICE_NETWORK, "dev", NODE_INTERFACE, "src", NODE_ADDRESS)
    run("ip", "route", "replace", *service_route, description="route to Services")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def start(layout: Layout, tools: Path, coredns: Path) -> None:
    """Start the node's processes and wait until the node is Ready."""
    if processes.alive(layout, "kubelet"):
        return
    started = time.monotonic()
    for folder in (NODE_RUN, NODE_STATE, _MADE, MODEL_STORE):
        if folder == MODEL_STORE and not folder.exists():
            _remember(folder)
        folder.mkdir(parents=True, exist_ok=True)
    _make_devices()
    _make_cgroup()
    start_containerd(layout)
    _start_coredns(layout, coredns)
    wait_until(
        lambda: _keep_kubelet_up(layout, tools),
        seconds=90,
        description="kubelet",
        log=processes.log_of(layout, "kubelet"),
    )
    processes.start(
        layout,
        "kube-proxy",
        [
            tools / "kube-proxy",
            f"--kubeconfig={layout.pki / 'kube-proxy.kubeconfig'}",
            "--proxy-mode=nftables",
            f"--hostname-override={NODE_NAME}",
            "--conntrack-max-per-core=0",
            "--bind-address=127.0.0.1",
        ],
    )
    wait_until(
        lambda: succeeds(
            *control_plane.kubectl(layout),
            *("wait", "--for=condition=Ready", f"node/{NODE_NAME}", "--timeout=2s"),
        ),
        seconds=90,
        description="the node",
        log=processes.log_of(layout, "kubelet"),
    )
    run(
        *control_plane.kubectl(layout),
        *("label", "node", NODE_NAME, "--overwrite", "llama-halo.dev/strix-halo=true"),
    )
    say(f"node {NODE_NAME} ready in {time.monotonic() - started:.1f} s")


def start_containerd(layout: Layout) -> None:
    """Start containerd under its own root, state and socket."""
    network = NODE_STATE / "cni"
    network.mkdir(parents=True, exist_ok=True)
    (network / "10-testbed.conflist").write_text(json.dumps(_pod_network(), indent=2))
    config = NODE_STATE / "containerd.toml"
    config.write_text(
        f"""version = 2
root = "{NODE_STATE / "containerd"}"
state = "{NODE_RUN / "containerd"}"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE runc cannot lower oom_score_adj and no container starts.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
"""
    )
    processes.start(layout, "containerd", [shutil.which("containerd") or "", "--config", config])
    wait_until(
        lambda: succeeds("ctr", "-a", CONTAINERD_SOCKET, "version"),
        seconds=30,
        description="containerd",
        log=processes.log_of(layout, "containerd"),
    )


def remove(layout: Layout) -> None:
    """Take the node away: processes, containers, mounts, namespaces, interfaces, rules, devices."""
    for name in ("kubelet", "kube-proxy", "coredns", "containerd"):
        processes.stop(layout, name)
    processes.end_strays(NODE_STATE)
    _end_containers()
    _forget_containers()
    _unmount_below(NODE_RUN, NODE_STATE)
    for link in (NODE_INTERFACE,):
        if succeeds("ip", "link", "show", link):
            run("ip", "link", "del", link)
    for family in ("ip", "ip6") if NODE_STATE.exists() else ():
        succeeds("nft", "delete", "table", family, "kube-proxy")
    _remove_host_port_chains()
    _forget_devices()
    _remove_cgroups()
    for folder in (NODE_RUN, NODE_STATE):
        shutil.rmtree(folder, ignore_errors=True)


def _start_kubelet(layout: Layout, tools: Path) -> None:
    config = NODE_STATE / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(layout), indent=2))
    processes.start(
        layout,
        "kubelet",
        [
            tools / "kubelet",
            f"--config={config}",
            f"--kubeconfig={layout.pki / 'kubelet.kubeconfig'}",
            f"--root-dir={NODE_STATE / 'kubelet'}",
            f"--cert-dir={NODE_STATE / 'kubelet-pki'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
        ],
    )


def _keep_kubelet_up(layout: Layout, tools: Path) -> bool:
    """Start kubelet, as systemd would, as often as it ends, and tell whether it answers.

    It ends while containerd's socket is there and its CRI service not yet.
    """
    with contextlib.suppress(TestbedError):
        _start_kubelet(layout, tools)
    try:
        with urllib.request.urlopen(KUBELET_HEALTH, timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _kubelet_config(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{NODE_CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [NODE_ADDRESS],
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "volumePluginDir": str(NODE_STATE / "volume-plugins"),
        "podLogsDir": str(NODE_STATE / "pod-logs"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "resolvConf": "/etc/resolv.conf",
        "syncFrequency": "10s",
        "registryPullQPS": 0,
        # Tests end containers many times in a row.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "5s"},
    }


def _start_coredns(layout: Layout, coredns: Path) -> None:
    corefile = NODE_STATE / "Corefile"
    corefile.write_text(
        f"""cluster.local in-addr.arpa {{
    bind {NODE_ADDRESS}
    errors
    cache 2
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {layout.pki / "coredns.kubeconfig"} testbed
    }}
}}
"""
    )
    processes.start(layout, "coredns", [coredns / "coredns", "-conf", corefile, "-dns.port", "53"])


def _pod_network() -> dict[str, object]:
    return {
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                # Point to point: all traffic between pods is routed, so Services need no
                # bridge netfilter.
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(NODE_STATE / "cni-addresses"),
                    "ranges": [[{"subnet": POD_NETWORK}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _make_devices() -> None:
    for device in DEVICES:
        if device.exists():
            continue
        if not device.parent.exists():
            _remember(device.parent)
            device.parent.mkdir()
        _remember(device)
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _remember(path: Path) -> None:
    """Note that we made a path outside our own folders, before making it."""
    _MADE.mkdir(parents=True, exist_ok=True)
    (_MADE / str(path).strip("/").replace("/", "__")).write_text(str(path))


def _forget_devices() -> None:
    """Remove the devices and folders that we made, deepest first; a folder in use stays."""
    if not _MADE.exists():
        return
    created = [Path(note.read_text()) for note in _MADE.iterdir()]
    for path in sorted(created, key=lambda entry: len(entry.parts), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def _make_cgroup() -> None:
    """Make the cgroup that holds all pods, in every hierarchy of version 1 or the one of 2."""
    if (_CGROUPS / "cgroup.controllers").exists():
        (_CGROUPS / NODE_CGROUP).mkdir(exist_ok=True)
        _give_share("cpu.weight", 100)
        return
    for hierarchy in _CGROUPS.iterdir():
        if (hierarchy / "cgroup.procs").exists() and not hierarchy.is_symlink():
            (hierarchy / NODE_CGROUP).mkdir(exist_ok=True)
    _give_share("cpu/cpu.shares", 1024)
    cpuset = _CGROUPS / "cpuset"
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (cpuset / name).exists():
            (cpuset / NODE_CGROUP / name).write_text((cpuset / name).read_text())


def _give_share(name: str, of_one_process: int) -> None:
    """Give all pods together the weight of as many processes as there are cores, as the kubelet
    does at the root: what runs beside the node would starve them otherwise."""
    folder, _, file = name.rpartition("/")
    share = _CGROUPS / folder / NODE_CGROUP / file
    if share.exists():
        # cgroup v2 takes no weight above 10,000.
        share.write_text(str(min(of_one_process * (os.cpu_count() or 1), 10_000)))


def _remove_cgroups() -> None:
    for root in (_CGROUPS / NODE_CGROUP, *_CGROUPS.glob(f"*/{NODE_CGROUP}")):
        for folder in sorted(root.rglob("*/"), key=lambda entry: len(entry.parts), reverse=True):
            if folder.is_dir():
                with contextlib.suppress(OSError):
                    folder.rmdir()
        with contextlib.suppress(OSError):
            root.rmdir()


def _end_containers() -> None:
    """End the shims of our containerd, found by its socket path, with all that they started."""
    shims = [pid for pid, arguments in processes.command_lines() if _is_our_shim(arguments)]
    children = _children()
    pending, victims = list(shims), list(shims)
    while pending:
        descendants = children.get(pending.pop(), [])
        pending += descendants
        victims += descendants
    for pid in reversed(victims):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in victims):
        time.sleep(0.1)


def _is_our_shim(arguments: list[str]) -> bool:
    return "containerd-shim" in arguments[0] and str(CONTAINERD_SOCKET) in arguments


def _children() -> dict[int, list[int]]:
    by_parent: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                by_parent.setdefault(parent, []).append(int(entry.name))
    return by_parent


def _unmount_below(*folders: Path) -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounts = [line.split()[4].replace("\\040", " ") for line in lines]
    ours = [m for m in mounts if any(Path(m).is_relative_to(folder) for folder in folders)]
    for mount in reversed(ours):
        succeeds("umount", "-l", mount)


def _remove_host_port_chains() -> None:
    """Remove what the portmap plugin leaves of our network in the nat table, and nobody else's."""
    rules = run("iptables", "-t", "nat", "-S").splitlines() if shutil.which("iptables") else []
    for rule in rules:
        arguments = shlex.split(rule)
        if arguments[0] == "-A" and f'"{NETWORK}"' in rule.replace("\\", "") and "-j" in arguments:
            chain = arguments[arguments.index("-j") + 1]
            succeeds("iptables", "-t", "nat", "-D", *arguments[1:])
            succeeds("iptables", "-t", "nat", "-F", chain)
            succeeds("iptables", "-t", "nat", "-X", chain)


def _forget_containers() -> None:
    """Remove what containers that ended without containerd leave outside our own folders."""
    tasks = NODE_RUN / "containerd/io.containerd.runtime.v2.task/k8s.io"
    for task in tasks.glob("*"):
        shutil.rmtree(Path("/run/containerd/runc/k8s.io") / task.name, ignore_errors=True)
        for result in Path("/var/lib/cni/results").glob(f"*{task.name}*"):
            result.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            address = (task / "address").read_text().removeprefix("unix://")
            Path(address).unlink(missing_ok=True)
