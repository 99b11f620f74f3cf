"""The store: a folder of model files, each with a manifest of its verified checksum.

A file's path has a digest that identifies its bytes, and a finished file is not written again:
`hf/OWNER/REPO/DIGEST/FILE` and `http/DIGEST/FILE`. An unfinished file is `FILE.ORIGIN.partial`. An
origin is a source, as one namespace has it; its unfinished files and its lock in a folder are its
own, so a server that sends nothing keeps no other origin waiting.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from llama_halo.errors import StoreError, StoreFull

MANIFEST, PARTIAL, LOCK = ".manifest.json", ".partial", ".lock"
_UNFINISHED = re.compile(r"(\.[0-9a-f]{8})?\.partial$")
"""The ending of an unfinished file; earlier versions named no origin."""
_ROOTS = {"hf": 4, "http": 2}
"""Folders of downloads, and the number of leading path parts that form a model's folder."""


@dataclass(frozen=True)
class Reserve:
    """Space to leave free: the larger of a number of bytes and a share of the disk.

    The kubelet evicts pods, models among them, when its disk has too little left.
    """

    size: int = 2**30
    """Bytes."""
    percent: int = 0

    def of_disk(self, disk: int) -> int:
        """Return the reserve of a disk; both are bytes."""
        return max(self.size, disk * self.percent // 100)


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


def origin_of(namespace: str, source: str) -> str:
    """Return the origin of a download: eight digits for a source, as one namespace has it."""
    return hashlib.sha256(f"{namespace} {source}".encode()).hexdigest()[:8]


def finish(partial: Path, file: Path, manifest: Manifest) -> None:
    """Write a verified file's manifest, and rename the file; both survive a power cut after this.

    The manifest comes first: a file without one is unfinished for the other origins.
    """
    manifest_path = _with_ending(file, MANIFEST)
    draft = manifest_path.with_name(manifest_path.name + PARTIAL)
    with draft.open("w") as stream:
        json.dump(asdict(manifest), stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(manifest_path)
    partial.rename(file)
    _sync(file.parent)


def prepare_partial(file: Path, origin: str) -> None:
    """Create the folder, and make a file without a manifest the origin's partial one.

    A power cut in `finish` may leave such a file; it has to be verified again.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        file.rename(partial_of(file, origin))


def partial_of(file: Path, origin: str) -> Path:
    """Return the path of a file until it is finished."""
    return _with_ending(file, f".{origin}{PARTIAL}")


def stored_bytes(file: Path, origin: str) -> int:
    """Return the bytes of a file on disk, finished or received from one origin."""
    for path in (file, partial_of(file, origin)):
        with suppress(OSError):
            return path.stat().st_size
    return 0


def ensure_free_space(store: Path, needed: int, reserve: Reserve) -> None:
    """Raise `StoreFull` unless the disk has `needed` bytes free, beyond the reserve."""
    usage = os.statvfs(store)
    free = usage.f_bavail * usage.f_frsize
    if needed > free - reserve.of_disk(usage.f_blocks * usage.f_frsize):
        raise StoreFull(disk_full_message(store, needed, reserve))


def disk_full_message(store: Path, needed: int, reserve: Reserve) -> str:
    """Return the message for a disk that lacks `needed` bytes."""
    usage = os.statvfs(store)
    free, disk = usage.f_bavail * usage.f_frsize, usage.f_blocks * usage.f_frsize
    kept = reserve.of_disk(disk)
    share = f", {reserve.percent} % of the disk," if kept > reserve.size else ""
    return (
        f"the store {store} has {max(free - kept, 0) / 2**30:.1f} GiB free above its reserve of"
        f" {kept / 2**30:.1f} GiB{share} and needs {needed / 2**30:.1f} GiB: remove files that no"
        " model uses (llama-halo store prune, on the node), use a store on another disk, or lower"
        " the operator's LLAMA_HALO_STORE_RESERVE if the kubelet's eviction thresholds allow it"
    )


@contextmanager
def locked(folder: Path, origin: str) -> Iterator[None]:
    """Wait for an origin's lock in a folder and hold it until the context or the process ends."""
    try:
        lock = _lock(folder, f".{origin}{LOCK}")
    except OSError as error:
        raise unusable(error.filename or folder, error) from error
    with lock:
        yield


def unusable(path: Path | str, error: OSError) -> StoreError:
    """Return the error of a store that cannot be used, with what to do."""
    advice = _ADVICE.get(error.errno or 0, "")
    return StoreError(f"{path}: {error.strerror or error}" + (f": {advice}" if advice else ""))


_NO_LOCKS = (
    "the file system has no locks: mount it with them (NFS 4, or a lock daemon for NFS 3), or use"
    " another store"
)
_MAY_NOT_WRITE = (
    "Jobs run as root without capabilities, so the folder has to belong to root, or be writable by"
    " everybody"
)
_ADVICE = {
    errno.EACCES: _MAY_NOT_WRITE,
    errno.EPERM: _MAY_NOT_WRITE,
    errno.ENOLCK: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
    errno.EROFS: "mount the store for writing, or choose another spec.store",
    errno.EIO: "the disk or its server fails: look at the node's kernel log",
    errno.ESTALE: "the NFS server has lost the folder: mount the store again",
}
"""By the number of the system's error."""


def _lock(folder: Path, name: str) -> IO[str]:
    """Wait for a lock; retry if a prune removed the lock or the folder meanwhile."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / name).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if (folder / name).stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        lock.close()


def files(store: Path) -> list[StoredFile]:
    """Return every downloaded file, finished or not, by path."""
    entries = []
    for root in _ROOTS:
        for path in (store / root).rglob("*"):
            if path.is_symlink() or not path.is_file() or _is_ours(path):
                continue
            whole = path.with_name(_UNFINISHED.sub("", path.name))
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
    """Remove a file unless a download holds a lock of its folder; tell whether the file is gone."""
    path, parts = store / file.path, Path(file.path).parts
    folder = store.joinpath(*parts[: _ROOTS[parts[0]]])
    try:
        with ExitStack() as locks:
            for lock in folder.glob(f"*{LOCK}"):
                stream = locks.enter_context(lock.open("w"))
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partials = [
                candidate
                for candidate in path.parent.iterdir()
                if _UNFINISHED.sub("", candidate.name) == path.name
            ]
            for candidate in (_with_ending(path, MANIFEST), *partials):
                candidate.unlink(missing_ok=True)
            _remove_empty(store, path.parent)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass  # it was removed with another file
    return True


def _remove_empty(store: Path, folder: Path) -> None:
    while folder != store and not any(not _is_lock(child) for child in folder.iterdir()):
        for lock in folder.iterdir():
            lock.unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent


def _is_ours(path: Path) -> bool:
    return _is_lock(path) or path.name.removesuffix(PARTIAL).endswith(MANIFEST)


def _is_lock(path: Path) -> bool:
    return path.name.endswith(LOCK)


def _with_ending(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
