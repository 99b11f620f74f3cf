"""Starting long-lived processes detached, and stopping exactly those.

A pid file holds the pid and the kernel's start time of the process, so that a reused pid is never
mistaken for ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.testbed.layout import Layout
from hack.testbed.shell import TestbedError, as_list, tail

PROGRAMS = frozenset(
    {
        "containerd",
        "coredns",
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubelet",
        "kustomize-controller",
        "kwok",
    }
)


def start(
    layout: Layout,
    name: str,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
) -> None:
    """Start a process in its own session unless it runs already; its output goes to its log."""
    if alive(layout, name):
        return
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.pids.mkdir(parents=True, exist_ok=True)
    with log_of(layout, name).open("ab") as log:
        process = subprocess.Popen(
            as_list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    record = {"pid": process.pid, "started": _start_time(process.pid)}
    (layout.pids / f"{name}.json").write_text(json.dumps(record))
    time.sleep(0.1)
    if process.poll() is not None:
        raise TestbedError(f"{name} ended at once:\n{tail(log_of(layout, name))}")
    process.returncode = 0  # it outlives us on purpose: no warning that it still runs


def log_of(layout: Layout, name: str) -> Path:
    """Return the log file of a process."""
    return layout.logs / f"{name}.log"


def alive(layout: Layout, name: str) -> bool:
    """Tell whether the process that we started under this name still runs."""
    return _pid(layout.pids / f"{name}.json") is not None


def running(layout: Layout) -> list[str]:
    """Return the names of our running processes, sorted."""
    return sorted(path.stem for path in layout.pids.glob("*.json") if _pid(path) is not None)


def stop(layout: Layout, name: str, *, grace_seconds: float = 10) -> None:
    """End a process of ours: politely first, by force when it outlives the grace period."""
    path = layout.pids / f"{name}.json"
    pid = _pid(path)
    if pid is not None:
        end_pid(pid, grace_seconds=grace_seconds)
    path.unlink(missing_ok=True)


def end_strays(folder: Path) -> None:
    """End our programs that run with files of a folder, found by their arguments.

    For processes whose pid file is gone: those of a testbed that was removed by hand.
    """
    for pid, arguments in command_lines():
        ours = Path(arguments[0]).name in PROGRAMS
        if ours and any(f"{folder}/" in word for word in arguments[1:]):
            end_pid(pid, grace_seconds=5)


def command_lines() -> list[tuple[int, list[str]]]:
    """Return the pid and the argument list of every process."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                lines.append((int(entry.name), (entry / "cmdline").read_text().split("\0")))
    return lines


def end_pid(pid: int, *, grace_seconds: float) -> None:
    """Signal one pid until it is gone."""
    for signal_number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            _reap(pid)
            if _start_time(pid) is None:
                return
            time.sleep(0.05)


def _pid(path: Path) -> int | None:
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    pid = int(record["pid"])
    _reap(pid)
    return pid if _start_time(pid) == record["started"] else None


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_time(pid: int) -> str | None:
    """Return field 22 of /proc/PID/stat (start time in clock ticks), None for a dead process."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] in "ZX" else after_name[19]
