"""What of a disk is left free, and which unfinished files are whose."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from llama_halo.artifacts import store
from llama_halo.artifacts.store import Manifest, Reserve, origin_of

GIB = 2**30
FILE = "hf/o/r/d/x.gguf"


@pytest.mark.parametrize(
    ("reserve", "disk_gib", "gib"),
    [
        (Reserve(), 1000, 1),
        (Reserve(percent=15), 1000, 150),
        (Reserve(percent=15), 4, 1),
        (Reserve(50 * GIB), 1000, 50),
    ],
)
def test_the_larger_of_size_and_share_is_reserved(
    reserve: Reserve, disk_gib: int, gib: int
) -> None:
    assert reserve.of_disk(disk_gib * GIB) == gib * GIB


def test_an_origin_is_a_source_of_one_namespace() -> None:
    url = "http://models/x.gguf"
    assert origin_of("a", url) == origin_of("a", url)
    assert len({origin_of("a", url), origin_of("b", url), origin_of("a", url + "?")}) == 3


def test_unfinished_files_of_every_origin_are_listed_and_removed(tmp_path: Path) -> None:
    file = tmp_path / FILE
    for origin in ("11111111", "22222222"):
        store.prepare_partial(file, origin)
        store.partial_of(file, origin).write_bytes(b"x")
    file.with_name("x.gguf.partial").write_bytes(b"of an earlier version")
    assert {entry.path for entry in store.files(tmp_path)} == {FILE}
    assert store.remove(tmp_path, store.files(tmp_path)[0])
    assert not file.parent.exists()


def test_a_download_of_any_origin_keeps_its_folder(tmp_path: Path) -> None:
    file = tmp_path / FILE
    store.prepare_partial(file, "11111111")
    store.partial_of(file, "11111111").write_bytes(b"x")
    (entry,) = store.files(tmp_path)
    with store.locked(file.parent, "22222222"):
        assert not store.remove(tmp_path, entry)
    assert store.remove(tmp_path, entry)


def test_a_finished_file_has_its_manifest_before_its_name(tmp_path: Path) -> None:
    file = tmp_path / FILE
    store.prepare_partial(file, "11111111")
    partial = store.partial_of(file, "11111111")
    partial.write_bytes(b"gguf")
    store.finish(partial, file, Manifest("s", "c", 4))
    assert store.manifest_of(file) == Manifest("s", "c", 4)
    file.unlink()
    assert store.manifest_of(file) is None


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "belong to root, or be writable by everybody"),
        (errno.ENOLCK, "the file system has no locks: mount it with them"),
        (errno.EROFS, "mount the store for writing"),
        (errno.EXDEV, "Invalid cross-device link"),
    ],
)
def test_a_store_that_cannot_be_used_says_what_to_do(number: int, says: str) -> None:
    message = str(store.unusable("/models/hf", OSError(number, os.strerror(number))))
    assert message.startswith(f"/models/hf: {os.strerror(number)}")
    assert says in message
