"""The programs of the testbed: Debian packages, and Go programs built from pinned modules.

Builds are cached outside the checkout, keyed by the module files and the Go version.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from hack.testbed.layout import CACHE, REPOSITORY
from hack.testbed.locks import locked
from hack.testbed.shell import TestbedError, run, say

_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True)
class GoModule:
    """One folder of hack/tools: its programs by name, and linker flags."""

    folder: str
    programs: dict[str, str]
    linker_flags: str = "-s -w"
    tags: str = ""

    @property
    def is_oldest(self) -> bool:
        """Tell whether it is the oldest supported Kubernetes."""
        return self.folder == "kubernetes-oldest"


def _kubernetes(folder: str, version: str, *programs: str) -> GoModule:
    """Return a Kubernetes; without a version the API server calls itself v0.0.0 and clients
    misbehave."""
    major, minor, _ = version.removeprefix("v").split(".")
    flags = (
        f"-s -w -X {_VERSION}.gitVersion={version} -X {_VERSION}.gitMajor={major}"
        f" -X {_VERSION}.gitMinor={minor} -X {_VERSION}.gitTreeState=clean"
    )
    return GoModule(folder, {name: f"k8s.io/kubernetes/cmd/{name}" for name in programs}, flags)


_CONTROL_PLANE = ("kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_NEWEST = _kubernetes("kubernetes", "v1.35.4", *_CONTROL_PLANE, "kubelet", "kube-proxy")
_OLDEST = _kubernetes("kubernetes-oldest", "v1.32.9", *_CONTROL_PLANE)
KUBERNETES = _OLDEST if os.environ.get("TESTBED_KUBERNETES") == "oldest" else _NEWEST
"""The newest that is promised; `oldest` is for `make release-check`, and has no node."""
COREDNS = GoModule(folder="coredns", programs={"coredns": "github.com/coredns/coredns"})
KWOK = GoModule(folder="kwok", programs={"kwok": "sigs.k8s.io/kwok/cmd/kwok"})
HELM = GoModule(folder="helm", programs={"helm": "helm.sh/helm/v4/cmd/helm"})
FLUX = GoModule(
    folder="kustomize-controller",
    programs={"kustomize-controller": "github.com/fluxcd/kustomize-controller"},
)

PROMETHEUS = GoModule(
    folder="prometheus",
    programs={
        name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")
    },
    tags="remove_all_sd,netgo",
)

CONTROL_PLANE_PACKAGES = ("etcd-server", "openssl")
NODE_PACKAGES = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "nftables",
    "conntrack",
    "iproute2",
    "socat",
    "gcc",
    "libc6-dev",
    "buildah",
    "debootstrap",
    # The tests of what people see use a real terminal.
    "tmux",
)
DISK_NEEDED_GIB = 8


def install_packages(packages: tuple[str, ...]) -> None:
    """Install the Debian packages that are missing; without root, say which and how."""
    if all(_installed(package) for package in packages):
        return
    with locked("debian-packages"):
        _install([package for package in packages if not _installed(package)])


def _install(missing: list[str]) -> None:
    if not missing:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0:
        raise TestbedError(f"Debian packages are missing. Install them first: sudo {command}")
    if shutil.which("apt-get") is None:
        raise TestbedError(f"this is no Debian machine; install what these hold: {missing}")
    say(f"installing Debian packages: {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=quiet, description="package lists")
    run(*command.split(), "-qq", env=quiet, description="package installation")


def download_packages(pins: Path, folder: Path, *, sources_of: str = "") -> None:
    """Put pinned Python packages into a folder, each checked against its hash; of one the sources,
    which tell pip their version by our own setuptools."""
    arguments = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes")
    if sources_of:
        arguments += ("--no-build-isolation", "--no-binary", sources_of)
    run(*arguments, "-r", pins, "-d", folder, description="download")


def build(module: GoModule, *programs: str) -> Path:
    """Build what the cache lacks of a module's programs and return the folder they are in."""
    source = REPOSITORY / "hack" / "tools" / module.folder
    folder = CACHE / "tools" / f"{module.folder}-{_key(module, source)}"
    names = programs or tuple(module.programs)
    if all((folder / name).exists() for name in names):
        return folder
    with locked(folder.name):
        _check_disk(folder)
        for name in names:
            if not (folder / name).exists():
                _build_one(module, name, source, folder)
    return folder


def kwok_stages() -> list[Path]:
    """Return the stage files that come with kwok: nodes and pods become ready at once."""
    source = REPOSITORY / "hack" / "tools" / KWOK.folder
    module = run("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok", cwd=source).strip()
    folder = Path(module) / "kustomize" / "stage"
    return [
        folder / "node/fast/node-initialize.yaml",
        folder / "node/heartbeat/node-heartbeat.yaml",
        *sorted((folder / "pod/fast").glob("pod-*.yaml")),
    ]


def _build_one(module: GoModule, name: str, source: Path, folder: Path) -> None:
    started = time.monotonic()
    say(f"building {name} (once; a cold build of all programs takes about ten minutes)")
    unfinished = folder / f".{name}"
    process = subprocess.Popen(
        [
            *("go", "build", "-v", "-trimpath", "-buildvcs=false"),
            *("-ldflags", module.linker_flags, "-tags", module.tags),
            *("-o", str(unfinished), module.programs[name]),
        ],
        cwd=source,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(process.stderr or []), daemon=True)
    reader.start()
    while True:
        try:
            process.wait(timeout=20)
            break
        except subprocess.TimeoutExpired:
            say(f"  {name}: {len(printed)} packages, {time.monotonic() - started:.0f} s")
    reader.join()
    if process.stderr is not None:
        process.stderr.close()
    if process.returncode != 0:
        end = "".join(printed[-15:])
        raise TestbedError(f"building {name} in {source} failed ({process.returncode}):\n{end}")
    unfinished.rename(folder / name)
    say(f"built {name} in {time.monotonic() - started:.0f} s")


def _key(module: GoModule, source: Path) -> str:
    go = shutil.which("go")
    if go is None:
        raise TestbedError("Go is not installed: install Go 1.26 or newer and put it on PATH")
    digest = hashlib.sha256(run(go, "env", "GOVERSION").encode())
    digest.update(f"{module.linker_flags}{module.tags}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((source / name).read_bytes())
    return digest.hexdigest()[:12]


def _check_disk(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < DISK_NEEDED_GIB:
        raise TestbedError(
            f"{folder} has {free_gib:.1f} GiB free and the builds need {DISK_NEEDED_GIB}:"
            " free some space, or point XDG_CACHE_HOME to a larger disk"
        )


def _installed(package: str) -> bool:
    done = subprocess.run(
        ["dpkg-query", "-W", "-f=${Status}", package], capture_output=True, text=True, check=False
    )
    return "install ok installed" in done.stdout
