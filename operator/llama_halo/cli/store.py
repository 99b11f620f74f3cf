"""`llama-halo store list|prune`: list the files of a store, or remove those that no model uses."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime
from pathlib import Path

from llama_halo.artifacts import store
from llama_halo.errors import CliError
from llama_halo.kube.cache import Object
from llama_halo.kube.client import KubeClient
from llama_halo.kube.resources import LLAMAMODEL
from llama_halo.plan.quantity import counted

DEFAULT_STORE = Path("/var/lib/llama-halo/models")


def run(argv: list[str]) -> int:
    """List the files of a store, or remove those that no LlamaModel uses."""
    arguments = _parser().parse_args(argv)
    files = store.files(arguments.store)
    if arguments.what == "list":
        print(f"{'SIZE':>10}  {'CHANGED':<16}  {'STATE':<10}  FILE")
        for file in files:
            print(_line(file))
        return 0
    kept = set(arguments.keep) | (set() if arguments.no_cluster else asyncio.run(_used()))
    unused = [file for file in files if not _is_used(file.path, kept)]
    for file in unused:
        gone = arguments.yes and store.remove(arguments.store, file)
        word = "removed" if gone else "in use, left" if arguments.yes else "would remove"
        print(f"{word}: {_line(file)}")
    size = sum(file.bytes for file in unused) / 2**30
    unused_files = f"{len(unused)} of {counted(len(files), 'file')}"
    print(f"{unused_files}, {size:.1f} GiB" + _hint(arguments, unused))
    return 0


def _hint(arguments: argparse.Namespace, unused: list[store.StoredFile]) -> str:
    return "" if arguments.yes or not unused else "; run again with --yes to remove them"


def _line(file: store.StoredFile) -> str:
    changed = datetime.fromtimestamp(file.modified, UTC).strftime("%Y-%m-%d %H:%M")
    state = "verified" if file.finished else "unfinished"
    return f"{file.bytes / 2**20:>6.0f} MiB  {changed}  {state:<10}  {file.path}"


def _is_used(path: str, kept: set[str]) -> bool:
    """Tell whether a path is kept: itself, its folder, or a file beside it, such as a shard."""
    return any(
        path == kept_path
        or path.startswith(f"{kept_path}/")
        or ("/" in kept_path and path.startswith(f"{kept_path.rpartition('/')[0]}/"))
        for kept_path in kept
    )


async def _used() -> set[str]:
    """Return the paths that any LlamaModel of the cluster uses."""
    cluster = await KubeClient.connect()
    cluster.on_rejected = _refuse_unreadable
    try:
        models, _ = await cluster.list(LLAMAMODEL, namespace=None)
    finally:
        await cluster.close()
    return {path for model in models for path in _paths(model)}


def _refuse_unreadable(kind: str) -> None:
    """Raise `CliError`: the files of a model that cannot be read would count as unused."""
    raise CliError(
        f"a {kind} cannot be read, so what it uses is not known, and nothing is removed:"
        " kubectl get llamamodels -A lists them; correct it or delete it"
    )


def _paths(model: Object) -> set[str]:
    """Return the paths of a model's downloads, and the local paths in its spec."""
    local = {source["local"]["path"] for source in _sources(model["spec"]) if "local" in source}
    status = model.get("status") or {}
    folders = {entry["folder"] for entry in status.get("inspected", ()) if entry.get("folder")}
    files = {file["path"] for file in status.get("files", ())}
    return files | folders | local


def _sources(spec: Object) -> list[Object]:
    """Return the sources of a model, its projector, its draft and its adapters."""
    draft = (spec.get("draft") or {}).get("model")
    named = [spec, spec.get("projector"), draft, *(spec.get("adapters") or ())]
    return [source["source"] for source in named if source]


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
