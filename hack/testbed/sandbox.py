"""A machine within the machine: run a command in its own process, mount and network namespaces.

`python -m hack.testbed.sandbox NAME -- COMMAND ...` lets several testbeds with a node run at once,
beside the one of `make demo`: each has its own /dev, /run, /var/lib and network, and the kernel
ends all of its processes when the command ends. It has no route to the outside, so everything that
is downloaded or built must be in the cache before. Needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hack.testbed.layout import CACHE, DEFAULT_DIRECTORY, NODE_STATE, SANDBOX_VARIABLE
from hack.testbed.locks import locked
from hack.testbed.shell import TestbedError, require_root, run

_WRITABLE = (Path("/dev"), Path("/run"), Path("/var/lib"))
_INSIDE = "--inside"


def main() -> int:
    """Run the command of the command line in a sandbox and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m hack.testbed.sandbox", description=__doc__)
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("name", help="of the sandbox; one runs at a time under a name")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    arguments = parser.parse_args()
    command = [word for word in arguments.command if word != "--"]
    try:
        if arguments.inside:
            folder = _folder(arguments.name)
            with locked(f"sandbox-{arguments.name}", wait=False):
                _remove(folder)
                _mount(folder)
                status = _run_as_init(command)
                _remove(folder)
            return status
        require_root("a sandbox with namespaces of its own")
        return subprocess.run(enter(arguments.name, command), check=False).returncode
    except TestbedError as error:
        print(f"sandbox {arguments.name}: {error}", file=sys.stderr)
        return 1


def enter(name: str, command: list[str]) -> list[str]:
    """Return the argument list that runs `command` in the sandbox called `name`."""
    return [
        *("unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--net"),
        *("env", f"{SANDBOX_VARIABLE}={name}"),
        *(sys.executable, "-m", "hack.testbed.sandbox", _INSIDE, name, "--", *command),
    ]


def _folder(name: str) -> Path:
    return CACHE / "sandboxes" / name


def _remove(folder: Path) -> None:
    """Remove what this sandbox, or an earlier one of its name, has written."""
    for written in (folder, DEFAULT_DIRECTORY):
        shutil.rmtree(written, ignore_errors=True)


def _mount(folder: Path) -> None:
    """Lay a writable layer over what a node changes; what it writes lies in `folder`."""
    for target in _WRITABLE:
        layers = folder / target.name
        for layer in ("changes", "work"):
            (layers / layer).mkdir(parents=True)
        submounts = [mount for mount in _mounts() if mount.parent == target]
        options = f"lowerdir={target},upperdir={layers / 'changes'},workdir={layers / 'work'}"
        descriptors = {mount: os.open(mount, os.O_PATH) for mount in submounts}
        run("mount", "-t", "overlay", "overlay", "-o", options, target, description="sandbox")
        for mount, descriptor in descriptors.items():
            source = f"/proc/{os.getpid()}/fd/{descriptor}"
            run("mount", "--no-canonicalize", "--rbind", source, mount, description="sandbox")
            os.close(descriptor)
    # containerd's snapshots are overlays themselves, and need a file system that is none.
    NODE_STATE.mkdir(parents=True, exist_ok=True)
    (folder / "node").mkdir()
    run("mount", "--bind", folder / "node", NODE_STATE, description="sandbox")
    run("ip", "link", "set", "lo", "up", description="sandbox")


def _mounts() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(line.split()[4].replace("\\040", " ")) for line in lines]


def _run_as_init(command: list[str]) -> int:
    """Run a command as process 1 has to: collect every process whose parent has ended."""
    process = subprocess.Popen(command)
    while True:
        pid, status = os.wait()
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main())
