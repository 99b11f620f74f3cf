"""The store: a folder of model files, each with a manifest of its verified checksum.

A file's path has a digest that identifies its bytes, and a finished file is not written again:
`hf/OWNER/REPO/DIGEST/FILE` and `http/DIGEST/FILE`. An unfinished file ends in `.partial`. Each
folder has one lock, and the lock's holder downloads into the folder.
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
"""Space to leave free: a full disk affects everything else on the node."""
_ROOTS = {"hf": 4, "http": 2}
"""Folders of downloads, and the number of leading path parts that form a model's folder."""


@dataclass(frozen=True)
class Manifest:
    """Source, checksum and size of a verified file."""

    source: str
    sha256: str
    bytes: int
    version: str = ""


@dataclass(frozen=True)
class StoredFile:
    """One file of the store, as `llama-halo store list` shows it."""

    path: str
    """Relative to the store."""
    bytes: int
    finished: bool
    modified: float


def manifest_of(file: Path) -> Manifest | None:
    """Return the manifest of a finished file, None if there is none or the size differs."""
    try:
        manifest = Manifest(**json.loads(_with_ending(file, MANIFEST).read_text()))
        return manifest if file.stat().st_size == manifest.bytes else None
    except (OSError, ValueError, TypeError):
        return None


def finish(partial: Path, file: Path, manifest: Manifest) -> None:
    """Rename a verified file, and write its manifest; both survive a power cut after this."""
    manifest_path = _with_ending(file, MANIFEST)
    draft = manifest_path.with_name(manifest_path.name + PARTIAL)
    with draft.open("w") as stream:
        json.dump(asdict(manifest), stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(file)
    draft.rename(manifest_path)
    _sync(file.parent)


def prepare_partial(file: Path) -> None:
    """Create the folder, and make a file without a manifest a partial one.

    A power cut in `finish` leaves such a file; it has to be verified again.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        file.rename(partial_of(file))


def partial_of(file: Path) -> Path:
    """Return the path of a file until it is finished."""
    return _with_ending(file, PARTIAL)


def stored_bytes(file: Path) -> int:
    """Return the bytes of a file on disk, finished or not."""
    for path in (file, partial_of(file)):
        with suppress(OSError):
            return path.stat().st_size
    return 0


def ensure_free_space(store: Path, needed: int) -> None:
    """Raise `StoreFull` unless the disk has `needed` bytes free, beyond the reserve."""
    usage = os.statvfs(store)
    free = usage.f_bavail * usage.f_frsize - RESERVE_BYTES
    if needed > free:
        raise StoreFull(disk_full_message(store, needed, max(free, 0)))


def disk_full_message(store: Path, needed: int, free: int) -> str:
    """Return the message for a full disk; `needed` and `free` are bytes."""
    return (
        f"the store {store} has {free / 2**30:.1f} GiB free above its reserve of 1 GiB, and"
        f" needs {needed / 2**30:.1f} GiB: remove files that no model uses (llama-halo store"
        " prune, on the node), or use a store on another disk"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait for a folder's lock and hold it; the kernel releases it when the process ends."""
    try:
        lock = _lock(folder)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror or error}") from error
    with lock:
        yield


def _lock(folder: Path) -> IO[str]:
    """Wait for a folder's lock; retry if a prune removed the lock or the folder meanwhile."""
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
    """Remove a file unless a download holds its folder's lock; tell whether the file is gone."""
    path, parts = store / file.path, Path(file.path).parts
    try:
        with store.joinpath(*parts[: _ROOTS[parts[0]]], LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for candidate in (_with_ending(path, MANIFEST), path, partial_of(path)):
                candidate.unlink(missing_ok=True)
            _remove_empty(store, path.parent)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass  # it was removed with another file
    return True


def _remove_empty(store: Path, folder: Path) -> None:
    while folder != store and not any(child.name != LOCK for child in folder.iterdir()):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent


def _is_ours(path: Path) -> bool:
    return path.name == LOCK or path.name.removesuffix(PARTIAL).endswith(MANIFEST)


def _with_ending(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
