"""Inspects a source: reads its header, and identifies its exact bytes.

The result goes into the container's termination message; `fetch` gets it back as arguments.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_halo.artifacts import hub
from llama_halo.artifacts.download import RemoteFile
from llama_halo.artifacts.http import same_version, shown
from llama_halo.artifacts.sources import SourceFile, open_file, read_model, read_whisper
from llama_halo.errors import (
    GGUFError,
    SourceChanged,
    SourceMissing,
    UnsupportedModel,
)
from llama_halo.gguf import companions, profile
from llama_halo.gguf.header import Header
from llama_halo.gguf.whisper import WHISPER

Json = dict[str, Any]
MODEL = "model"
KINDS = (MODEL, companions.PROJECTOR, companions.ADAPTER, WHISPER)
"""The kinds of file that a caller can require."""
DIGITS = 16


@dataclass(frozen=True)
class HubSource:
    """A file of a repository at a revision; for a sharded model, its first file."""

    place: hub.HubFile
    namespace: str = ""
    """A file without a checksum is in a folder of its namespace: nothing shows what it is."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that authorize its downloads."""
        return hub.authorization()

    def inspect(self, kind: str) -> Json:
        """Resolve the revision to a commit, and read the header there."""
        pinned = hub.resolve_commit(self.place)
        about, files = read_source(str(pinned), pinned.file, kind)
        blobs = hub.blobs(pinned, [hub.parse(file.source).file for file in files])
        checksums = [blob.sha256 or "" for blob in blobs]
        named = combined_checksum(checksums) if all(checksums) else None
        content = (named or combined_checksum([self.namespace, str(pinned)]))[:DIGITS]
        return {
            "folder": f"hf/{pinned.repo}/{content}",
            "file": pinned.file,
            "sha256": named,
            "revision": pinned.revision,
            "bytes": sum(blob.size for blob in blobs),
            "shards": len(blobs),
            **about,
        }

    def files(self, shards: int, version: str, sha256: str | None) -> list[RemoteFile]:
        """Return the files to download; the place's revision is a commit.

        Raises `SourceChanged` if the Hub's checksums differ from the inspected one.
        """
        blobs = hub.blobs(self.place, shard_files(self.place.file, shards))
        checksums = [blob.sha256 or "" for blob in blobs]
        if sha256 and combined_checksum(checksums) != sha256:
            raise SourceChanged(
                f"{self.place}: the Hub's checksums of this commit are not those it gave when the"
                " model was inspected"
            )
        return [
            RemoteFile(
                url=hub.HubFile(self.place.repo, blob.file, self.place.revision).url,
                name=blob.file,
                size=blob.size,
                sha256=blob.sha256,
            )
            for blob in blobs
        ]


@dataclass(frozen=True)
class UrlSource:
    """A file behind a URL, with or without a checksum."""

    url: str
    headers: Mapping[str, str]
    sha256: str | None = None
    namespace: str = ""
    """As in `HubSource`."""

    def inspect(self, kind: str) -> Json:
        """Read the header, and the version that identifies the file under its URL."""
        about, files = read_source(self.url, self.url.partition("?")[0], kind, self.headers)
        if self.sha256 and len(files) > 1:
            raise UnsupportedModel(
                f"http.sha256 is of one file, and the model has {len(files)}: delete it, or merge"
                " the shards (llama-gguf-split --merge)"
            )
        file_versions = versions(files)
        named = self.sha256 or combined_checksum(
            [self.namespace, self.url, *(f"{file.size}" for file in files), file_versions]
        )
        return {
            "folder": f"http/{named[:DIGITS]}",
            "file": file_name(self.url),
            "sha256": self.sha256,
            "version": file_versions,
            "bytes": sum(file.size for file in files),
            "shards": len(files),
            **about,
        }

    def files(self, shards: int, version: str, sha256: str | None) -> list[RemoteFile]:
        """Return the files to download; raises `SourceChanged` if they are not as inspected."""
        files = [self._read_part(url) for url in shard_files(self.url, shards)]
        if version and not self.sha256 and not same_version(versions(files), version):
            raise SourceChanged(
                f"{shown(files[0].source)}: the file is not the one that was inspected:"
                f" {version} then, {versions(files)} now"
            )
        return [
            RemoteFile(
                url=file.source,
                name=file_name(file.source),
                size=file.size,
                sha256=self.sha256,
                version=file.version,
            )
            for file in files
        ]

    def _read_part(self, url: str) -> SourceFile:
        with open_file(url, self.headers) as file:
            return SourceFile(url, file.size, file.version)


@dataclass(frozen=True)
class StoredSource:
    """A file that is already in the store; it has no checksum to verify."""

    store: Path
    path: str

    def inspect(self, kind: str) -> Json:
        """Read the header in the store; raises `SourceMissing` for a file outside of it."""
        whole = self.store / self.path
        if not whole.exists():
            raise SourceMissing(f"there is no {self.path} in the store")
        if not whole.resolve().is_relative_to(self.store.resolve()):
            raise SourceMissing(f"{self.path} leads out of the store, where no server can follow")
        about, files = read_source(str(whole), self.path, kind)
        size = sum(file.size for file in files)
        return {
            "folder": "",
            "file": self.path,
            "bytes": size,
            "shards": len(files),
            **about,
        }


def read_source(
    source: str, file: str, kind: str, headers: Mapping[str, str] | None = None
) -> tuple[Json, list[SourceFile]]:
    """Return the JSON of a source's header, and the facts of its files."""
    if kind == WHISPER:
        companion, facts = read_whisper(source, headers)
        return {"companion": companions.to_json(companion)}, facts
    header, facts = read_model(source, headers)
    return header_entry(header, file, kind), facts


def header_entry(header: Header, file: str, kind: str) -> Json:
    """Return the JSON of a header: `profile` for a model, `companion` for any other kind.

    Raises `UnsupportedModel` when the file is of another kind.
    """
    try:
        if kind == MODEL:
            return {"profile": profile.to_json(profile.profile(header, file))}
        return {"companion": companions.to_json(companions.companion(header, kind))}
    except GGUFError as error:
        raise type(error)(f"{file}: {error}") from error


def file_name(url: str) -> str:
    """Return the file's name in the store: the last part of the path, without unsafe characters."""
    last = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[-200:] or "model.gguf"


def combined_checksum(checksums: Sequence[str]) -> str:
    """Return one SHA-256 for several checksums; a single SHA-256 stays as it is."""
    if len(checksums) == 1 and len(checksums[0]) == 64:
        return checksums[0]
    return hashlib.sha256("\n".join(checksums).encode()).hexdigest()


def versions(files: Sequence[SourceFile]) -> str:
    """Return one version for all files; empty if any of them has none."""
    file_versions = [file.version for file in files]
    if not all(file_versions):
        return ""
    if len(file_versions) == 1:
        return file_versions[0]
    return combined_checksum([one.removeprefix("W/") for one in file_versions])


def shard_files(first: str, shards: int) -> list[str]:
    """Return the names of all files of a model whose first is `…-00001-of-00003.gguf`."""
    if shards == 1:
        return [first]
    path, mark, query = first.partition("?")
    ending = f"-00001-of-{shards:05}.gguf"
    stem = path.removesuffix(ending)
    return [f"{stem}-{index:05}-of-{shards:05}.gguf{mark}{query}" for index in range(1, shards + 1)]
