"""The Hugging Face Hub: resolves revisions to commits, and files to sizes, checksums and URLs.

Only two of the Hub's routes are needed, so the Hub's client library with its second HTTP stack is
not used: `docs/design/20261125-files.md`. HF_ENDPOINT and HF_TOKEN are the library's variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx

from llama_halo.artifacts.http import REQUEST_ERRORS, connect, refusal
from llama_halo.errors import NotAllowed, SourceError, SourceMissing

HUB = "https://huggingface.co"
Json = Any


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at a revision: a branch, a tag, or a commit."""

    repo: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hf:{self.repo}/{self.file}@{self.revision}"

    @property
    def url(self) -> str:
        """The file's URL on the Hub (or HF_ENDPOINT), which may redirect."""
        revision = quote(self.revision, safe="")
        return f"{_endpoint()}/{self.repo}/resolve/{revision}/{quote(self.file)}"


@dataclass(frozen=True)
class Blob:
    """A file's size and checksum, as the Hub reports them."""

    file: str
    size: int
    sha256: str | None
    """None for small files, which the Hub stores in Git itself."""


def parse(source: str) -> HubFile:
    """Parse `hf:OWNER/NAME/PATH[@REVISION]`; raises `SourceError` for any other text."""
    where, _, revision = source.removeprefix("hf:").partition("@")
    parts = where.split("/")
    plain = re.fullmatch(r"[\w./@+ -]+", source[3:], re.ASCII)
    if len(parts) < 3 or not all(parts) or ".." in parts or not plain:
        raise SourceError(f"{source}: write hf:OWNER/REPO/FILE, or hf:OWNER/REPO/FILE@REVISION")
    return HubFile("/".join(parts[:2]), "/".join(parts[2:]), revision or "main")


def authorization() -> dict[str, str]:
    """Return the header for HF_TOKEN, none without a token; raises `NotAllowed` for a bad one."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        return {}
    if not re.fullmatch(r"[!-~]+", token):
        raise NotAllowed("HF_TOKEN contains characters that no token has: set it again")
    return {"Authorization": f"Bearer {token}"}


def resolve_commit(place: HubFile) -> HubFile:
    """Return the place with its revision resolved to a commit."""
    revision = quote(place.revision, safe="")
    answer = _request("GET", f"/api/models/{place.repo}/revision/{revision}", str(place))
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise SourceError(f"{place}: the Hub names no commit for this revision")
    return replace(place, revision=commit)


def blobs(place: HubFile, files: Sequence[str]) -> list[Blob]:
    """Return the files at the place's revision, in order; raises `SourceMissing`."""
    body = {"paths": list(files), "expand": False}
    path = f"/api/models/{place.repo}/paths-info/{quote(place.revision, safe='')}"
    answer = _request("POST", path, str(place), body)
    try:
        blobs_by_path = {entry["path"]: _blob(entry) for entry in answer if entry["type"] == "file"}
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{place}: the Hub's list of files cannot be read: {error!r}") from error
    missing = [file for file in files if file not in blobs_by_path]
    if missing:
        raise SourceMissing(f"{place}: there is no {', '.join(missing[:3])} at this revision")
    return [blobs_by_path[file] for file in files]


def _blob(entry: Json) -> Blob:
    large = entry.get("lfs") or {}
    checksum = large.get("oid") or large.get("sha256")
    if checksum is not None and not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise ValueError(f"{checksum!r} is no SHA-256")
    return Blob(entry["path"], int(large.get("size", entry["size"])), checksum)


def _request(method: str, path: str, name: str, body: Json = None) -> Json:
    try:
        with connect() as client:
            # The Hub redirects requests for a renamed repository.
            response = client.request(
                *(method, _endpoint() + path),
                json=body,
                headers=authorization(),
                follow_redirects=True,
            )
            if response.status_code != 200:
                raise _refusal(name, response)
            try:
                return response.json()
            except ValueError as error:
                raise SourceError(f"{name}: the Hub's answer is not JSON: {error}") from error
    except REQUEST_ERRORS as error:
        raise SourceError(f"{name}: {str(error)[:200] or type(error).__name__}") from error


def _refusal(name: str, response: httpx.Response) -> SourceError:
    """Return the error for the Hub's error code; without a token, a missing repository is a 401."""
    code = response.headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        return NotAllowed(
            f"{name}: the model is gated: accept its terms on its page with the account whose token"
            " is used"
        )
    if code == "RevisionNotFound":
        return SourceMissing(f"{name}: there is no such revision")
    if code == "RepoNotFound" or response.status_code == 401:
        kind = NotAllowed if response.status_code == 401 else SourceMissing
        return kind(f"{name}: there is no such repository, or the token may not see it")
    return refusal(name, response)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/") or HUB
