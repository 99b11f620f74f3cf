"""Locks for the shared cache: one process builds an entry, and the others wait for it."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.testbed.layout import CACHE
from hack.testbed.shell import TestbedError


@contextmanager
def locked(name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of this name; wait for it while another process or thread has it, or raise
    `TestbedError`."""
    folder = CACHE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise TestbedError(f"{name} runs already on this machine: wait for its end") from error
        yield


def make_once(target: Path, make: Callable[[Path], None]) -> Path:
    """Return a path of the cache; the first caller makes it, and others wait for that."""
    if not target.exists():
        with locked(f"{target.parent.name}-{target.name}"):
            if not target.exists():
                make(target)
    return target
