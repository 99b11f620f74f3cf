"""The Hugging Face Hub: resolves revisions to commits, and files to sizes, checksums and URLs.

Only three of the Hub's routes are needed, so the Hub's client library with its second HTTP stack is
not used: `docs/design/20261125-files.md`. HF_ENDPOINT and HF_TOKEN are the library's variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx

from llama_halo.artifacts.http import REQUEST_ERRORS, connect, refusal, send
from llama_halo.errors import NotAllowed, SourceError, SourceMissing

HUB = "https://huggingface.co"
Json = Any
MAX_PAGES = 20
"""Of the list of one folder; a page has a thousand files."""
_NO_ROUTE = (404, 405, 501)


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
    is_plain = source.isprintable() and not set("\\$") & set(source)
    if len(parts) < 3 or not all(parts) or ".." in parts or not is_plain:
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
    with _client(str(place)) as client:
        response = _send(client, "GET", f"/api/models/{place.repo}/revision/{revision}")
        answer = _json(str(place), response)
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise SourceError(f"{place}: the Hub names no commit for this revision")
    return replace(place, revision=commit)


def blobs(place: HubFile, files: Sequence[str]) -> list[Blob]:
    """Return the files at the place's revision, in order; raises `SourceMissing`."""
    try:
        blobs_by_path = {
            entry["path"]: _blob(entry)
            for entry in _entries(place, files)
            if entry["type"] == "file" and entry["path"] in files
        }
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{place}: the Hub's list of files cannot be read: {error!r}") from error
    missing = [file for file in files if file not in blobs_by_path]
    if missing:
        raise SourceMissing(f"{place}: there is no {', '.join(missing[:3])} at this revision")
    return [blobs_by_path[file] for file in files]


def _entries(place: HubFile, files: Sequence[str]) -> list[Json]:
    """Return what the Hub lists of the files; a mirror without `paths-info` lists their folders."""
    revision = quote(place.revision, safe="")
    body = {"paths": list(files), "expand": False}
    path, name = f"/api/models/{place.repo}/paths-info/{revision}", str(place)
    with _client(name) as client:
        response = _send(client, "POST", path, body)
        if response.status_code not in _NO_ROUTE or "X-Error-Code" in response.headers:
            return list(_json(name, response))
        entries: list[Json] = []
        for folder in sorted({file.rpartition("/")[0] for file in files}):
            listing = f"/api/models/{place.repo}/tree/{revision}/{quote(folder)}".rstrip("/")
            page = ""
            for _ in range(MAX_PAGES):
                response = _send(client, "GET", listing + page)
                entries += _json(name, response)
                following = response.links.get("next", {}).get("url", "")
                if not following:
                    break
                # Of the link only the query: a mirror may pass on the Hub's own address.
                page = f"?{httpx.URL(following).query.decode()}"
        return entries


def _blob(entry: Json) -> Blob:
    large = entry.get("lfs") or {}
    checksum = large.get("oid") or large.get("sha256")
    if checksum is not None and not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise ValueError(f"{checksum!r} is no SHA-256")
    return Blob(entry["path"], int(large.get("size", entry["size"])), checksum)


@contextmanager
def _client(name: str) -> Iterator[httpx.Client]:
    try:
        with connect() as client:
            yield client
    except REQUEST_ERRORS as error:
        raise SourceError(f"{name}: {str(error)[:200] or type(error).__name__}") from error


def _send(client: httpx.Client, method: str, path: str, body: Json = None) -> httpx.Response:
    """Return the whole response of the Hub; it redirects requests for renamed repositories."""
    url = _endpoint() + path
    with send(client, url, authorization(), method=method, body=body) as response:
        response.read()
        return response


def _json(name: str, response: httpx.Response) -> Json:
    if response.status_code != 200:
        raise _refusal(name, response)
    try:
        return response.json()
    except ValueError as error:
        raise SourceError(f"{name}: the Hub's answer is not JSON: {error}") from error


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
