"""The store: a folder of model files, each beside the manifest that says what was verified.

A file's path names its bytes, and is never written twice: `hf/OWNER/REPO/DIGEST/FILE` and
`http/DIGEST/FILE`. What is not finished is called `.partial`. One lock a folder: whoever holds it
downloads into it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from llama_halo.errors import StoreError, StoreFull

MANIFEST, PARTIAL, LOCK = ".manifest.json", ".partial", ".lock"
RESERVE_BYTES = 2**30
"""Kept free: a full disk hurts everything else on the node."""
_ROOTS = {"hf": 4, "http": 2}
"""Where downloads are, and how many parts of a path are its model's folder."""


@dataclass(frozen=True)
class Manifest:
    """What was verified when a file was finished."""

    source: str
    sha256: str
    bytes: int
    version: str = ""


@dataclass(frozen=True)
class StoredFile:
    """One file of the store as `llama-halo store list` tells it."""

    path: str
    """Relative to the store."""
    bytes: int
    finished: bool
    modified: float


def manifest_of(file: Path) -> Manifest | None:
    """Return the manifest of a finished file, None when it is not, or not as the manifest says."""
    try:
        manifest = Manifest(**json.loads(_beside(file, MANIFEST).read_text()))
        return manifest if file.stat().st_size == manifest.bytes else None
    except (OSError, ValueError, TypeError):
        return None


def finish(partial: Path, file: Path, manifest: Manifest) -> None:
    """Give a verified file its name; after a power cut both it and its manifest are there."""
    beside = _beside(file, MANIFEST)
    draft = beside.with_name(beside.name + PARTIAL)
    with draft.open("w") as stream:
        json.dump(asdict(manifest), stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(file)
    draft.rename(beside)
    _sync(file.parent)


def prepare_partial(file: Path) -> None:
    """Make ready for a download: a file without its manifest is one that is still to be verified,
    such as after a power cut between the two."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        file.rename(partial_of(file))


def partial_of(file: Path) -> Path:
    """Return what a file is called until it is finished."""
    return _beside(file, PARTIAL)


def bytes_there(file: Path) -> int:
    """Return how much of a file is there, finished or not."""
    for path in (file, partial_of(file)):
        with suppress(OSError):
            return path.stat().st_size
    return 0


def ensure_free_space(store: Path, needed: int) -> None:
    """Refuse what the disk would not hold; raises `StoreFull`."""
    usage = os.statvfs(store)
    free = usage.f_bavail * usage.f_frsize - RESERVE_BYTES
    if needed > free:
        raise StoreFull(full(store, needed, max(free, 0)))


def full(store: Path, needed: int, free: int) -> str:
    """Return the sentence of a full disk."""
    return (
        f"the store {store} has {free / 2**30:.1f} GiB free beside a reserve of 1 GiB, and"
        f" {needed / 2**30:.1f} GiB are to come: remove files that no model uses (llama-halo store"
        " prune, on the node), or use a store on another disk"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, waiting for it; it ends with the process, however that ends."""
    try:
        lock = _lock(folder)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror or error}") from error
    with lock:
        yield


def _lock(folder: Path) -> IO[str]:
    """Wait for a folder's lock; a prune may remove it, and the folder, meanwhile."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if (folder / LOCK).stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        lock.close()


def files(store: Path) -> list[StoredFile]:
    """Return every downloaded file, finished or not, by path."""
    entries = []
    for root in _ROOTS:
        for path in (store / root).rglob("*"):
            if path.is_symlink() or not path.is_file() or _is_ours(path):
                continue
            whole = path.with_name(path.name.removesuffix(PARTIAL))
            status = path.stat()
            entries.append(
                StoredFile(
                    path=str(whole.relative_to(store)),
                    bytes=status.st_size,
                    finished=manifest_of(path) is not None,
                    modified=status.st_mtime,
                )
            )
    return sorted(entries, key=lambda entry: entry.path)


def remove(store: Path, file: StoredFile) -> bool:
    """Remove a file, unless its folder is being downloaded into; tell whether it is gone."""
    path, parts = store / file.path, Path(file.path).parts
    try:
        with store.joinpath(*parts[: _ROOTS[parts[0]]], LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for candidate in (_beside(path, MANIFEST), path, partial_of(path)):
                candidate.unlink(missing_ok=True)
            _remove_empty(store, path.parent)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass  # it went with another one
    return True


def _remove_empty(store: Path, folder: Path) -> None:
    while folder != store and not any(child.name != LOCK for child in folder.iterdir()):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent


def _is_ours(path: Path) -> bool:
    return path.name == LOCK or path.name.removesuffix(PARTIAL).endswith(MANIFEST)


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
