"""Keeps what a failed test leaves behind: logs of operator, gateway, pods and control plane.

Fixtures register what they started; a failure copies all of it into a folder of the test's name.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hack.testbed.cluster import Cluster, Testbed
from hack.testbed.layout import REPOSITORY

SaveLogs = Callable[[Path], None]
SOURCES = pytest.StashKey[list[SaveLogs]]()
DEFAULT_FOLDER = REPOSITORY / ".reports" / "logs"
_MAX_BYTES = 2 * 2**20
_SECONDS = 20


@contextmanager
def registered(config: pytest.Config, source: SaveLogs) -> Iterator[None]:
    """Have `source` called with the folder of each test that fails until the block ends."""
    sources = config.stash.setdefault(SOURCES, [])
    sources.append(source)
    try:
        yield
    finally:
        sources.remove(source)


@contextmanager
def saved_on_error(config: pytest.Config, logs: Path) -> Iterator[None]:
    """Copy the logs of a cluster that does not come up, before it is taken down."""
    try:
        yield
    except BaseException:
        folder = Path(config.getoption("--logs")) / "set-up"
        folder.mkdir(parents=True, exist_ok=True)
        copy_ends(logs, folder)
        raise


def save(item: pytest.Item) -> Path | None:
    """Save the logs of everything that is kept just now, and return the folder of this test."""
    sources = item.config.stash.get(SOURCES, [])
    if not sources:
        return None
    name = re.sub(r"[^\w.-]+", "_", f"{item.path.stem}.{item.name}")[:120]
    folder = Path(item.config.getoption("--logs")) / name
    folder.mkdir(parents=True, exist_ok=True)
    # A limit that ends the saving would end the whole tier.
    item.config.hook.pytest_timeout_cancel_timer(item=item)
    for save_to in sources:
        try:
            save_to(folder)
        except (OSError, subprocess.SubprocessError) as error:
            (folder / "not-saved.txt").write_text(f"{save_to}: {error}\n")
    return folder


def copy_ends(logs: Path, folder: Path) -> None:
    """Copy the ends of all logs of a folder."""
    for log in logs.glob("*.log"):
        copy_end(log, folder)


def copy_end(log: Path, folder: Path) -> None:
    """Copy at most the last 2 MiB of a file."""
    if not log.exists():
        return
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _MAX_BYTES, 0))
        (folder / log.name).write_bytes(file.read())


def save_cluster(cluster: Cluster, namespaces: tuple[str, ...], folder: Path) -> None:
    """Write resources, events and every container's log of some namespaces."""
    kubectl = (str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig))
    for namespace in namespaces:
        kinds = "llamamodels,modelrouters,deployments,jobs,pods"
        for name, arguments in {
            "resources.yaml": ("get", kinds, "-o", "yaml"),
            "pods.txt": ("describe", "pods"),
            "events.txt": ("events",),
        }.items():
            _write(folder / f"{namespace}-{name}", *kubectl, "-n", namespace, *arguments)
        for pod in _pods(*kubectl, "-n", namespace, "get", "pods", "-o", "json"):
            log = (
                *kubectl,
                "-n",
                namespace,
                "logs",
                pod,
                "--all-containers",
                "--prefix",
                "--ignore-errors",
            )
            _write(folder / f"{namespace}-{pod}.log", *log)
            _write(folder / f"{namespace}-{pod}-previous.log", *log, "--previous")
    if isinstance(cluster, Testbed):
        copy_ends(cluster.layout.logs, folder)


def _pods(*command: str) -> list[str]:
    try:
        return [pod["metadata"]["name"] for pod in json.loads(_output(*command))["items"]]
    except (ValueError, KeyError):
        return []


def _write(path: Path, *command: str) -> None:
    if text := _output(*command):
        path.write_text(text)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)} did not end within {_SECONDS} s"
    return done.stdout or done.stderr
