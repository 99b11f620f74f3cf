"""Running commands, and the one error that a person sees; used by every other testbed module."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class TestbedError(Exception):
    """Something a person has to act on; the message says what was seen and what to do."""

    __test__ = False  # not a test class, whatever its name


def say(text: str) -> None:
    """Report progress on standard error at once."""
    print(f"testbed: {text}", file=sys.stderr, flush=True)


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    description: str = "",
) -> str:
    """Run a command to its end and return its standard output; its error output is in the error."""
    arguments = [str(word) for word in command]
    try:
        done = subprocess.run(
            arguments,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise TestbedError(
            f"{arguments[0]} is not installed ({description or 'needed here'})"
        ) from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise TestbedError(
            f"{description or 'command'} failed: {' '.join(arguments)} ended with"
            f" {done.returncode}:\n{tail}"
        )
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """Tell whether a command ends with 0, whatever it prints."""
    return (
        subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode
        == 0
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive; Python's own way depends on its patch release."""
    folder.mkdir(parents=True, exist_ok=True)
    run("tar", "--extract", "--no-same-owner", "--file", archive, "--directory", folder)


def wait_until(check: Callable[[], bool], *, seconds: float, description: str, log: Path) -> None:
    """Poll `check` until it holds; past `seconds`, fail with the end of `log`."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise TestbedError(
                f"{description} did not come within {seconds:.0f} s; {log} ends:\n{tail(log)}"
            )
        time.sleep(0.1)


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, or say that there is none."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def require_root(reason: str) -> None:
    """Refuse early, and say what needs root, when the caller is not root."""
    if os.geteuid() != 0:
        raise TestbedError(
            f"{reason} needs root: run the same command as root (with sudo, keep PATH so that Go is"
            " found: sudo env PATH=$PATH make demo)"
        )


def as_list(arguments: Sequence[str | Path]) -> list[str]:
    """Turn a mixed command into the strings that the operating system takes."""
    return [str(word) for word in arguments]
