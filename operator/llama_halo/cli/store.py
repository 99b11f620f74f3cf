"""`llama-halo store list|prune`: what is in a store of model files, and what no model uses."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime
from pathlib import Path

from llama_halo.artifacts import store
from llama_halo.kube.cache import Object
from llama_halo.kube.client import RestCluster
from llama_halo.kube.resources import LLAMAMODEL

DEFAULT_STORE = Path("/var/lib/llama-halo/models")


def run(words: list[str]) -> int:
    """List the files of a store, or remove those that no LlamaModel uses."""
    arguments = _parser().parse_args(words)
    found = store.files(arguments.store)
    if arguments.what == "list":
        print(f"{'SIZE':>10}  {'CHANGED':<16}  {'STATE':<10}  FILE")
        for each in found:
            print(_line(each))
        return 0
    kept = set(arguments.keep) | (set() if arguments.no_cluster else asyncio.run(_used()))
    unused = [each for each in found if not _is_used(each.path, kept)]
    for each in unused:
        gone = arguments.yes and store.remove(arguments.store, each)
        word = "removed" if gone else "in use, left" if arguments.yes else "would remove"
        print(f"{word}: {_line(each)}")
    size = sum(each.bytes for each in unused) / 2**30
    print(f"{len(unused)} files of {len(found)}, {size:.1f} GiB" + _hint(arguments, unused))
    return 0


def _hint(arguments: argparse.Namespace, unused: list[store.StoredFile]) -> str:
    return "" if arguments.yes or not unused else "; run again with --yes to remove them"


def _line(file: store.StoredFile) -> str:
    changed = datetime.fromtimestamp(file.modified, UTC).strftime("%Y-%m-%d %H:%M")
    state = "verified" if file.finished else "unfinished"
    return f"{file.bytes / 2**20:>6.0f} MiB  {changed}  {state:<10}  {file.path}"


def _is_used(path: str, kept: set[str]) -> bool:
    """Tell whether a file is among the kept: itself, its folder, or a shard beside it."""
    return any(
        path == each
        or path.startswith(f"{each}/")
        or ("/" in each and path.startswith(f"{each.rpartition('/')[0]}/"))
        for each in kept
    )


async def _used() -> set[str]:
    """Return the paths that any LlamaModel of the cluster names in its status."""
    cluster = await RestCluster.connect()
    try:
        models, _ = await cluster.list(LLAMAMODEL, namespace=None)
    finally:
        await cluster.close()
    return {path for each in models for path in _paths(each)}


def _paths(model: Object) -> set[str]:
    """Return what a model has downloaded, and what its spec names in the store."""
    local = {each["local"]["path"] for each in _sources(model["spec"]) if "local" in each}
    status = model.get("status") or {}
    folders = {each["folder"] for each in status.get("inspected", ()) if each.get("folder")}
    files = {each["path"] for each in status.get("files", ())}
    return files | folders | local


def _sources(spec: Object) -> list[Object]:
    """Return the sources of a model and of all that goes with it."""
    draft = (spec.get("draft") or {}).get("model")
    named = [spec, spec.get("projector"), draft, *(spec.get("adapters") or ())]
    return [each["source"] for each in named if each]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-halo store")
    parser.add_argument("what", choices=["list", "prune"])
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, metavar="FOLDER")
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PATH",
        help="keep this file or folder, below the store, beside what the cluster's LlamaModels use"
        " (KUBECONFIG, or a pod's account)",
    )
    parser.add_argument("--no-cluster", action="store_true", help="only what --keep names is kept")
    parser.add_argument("--yes", action="store_true", help="remove; without it, only tell")
    return parser
