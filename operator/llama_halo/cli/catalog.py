"""`llama-halo catalog [NAME…]`: print models for Strix Halo as resources, and whether they fit."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from llama_halo.contract.labels import API_VERSION
from llama_halo.errors import CliError
from llama_halo.plan.quantity import human_gib, mebibytes

Json = dict[str, Any]
USUAL_BUDGET = "104Gi"
"""GPU memory of a machine of 128 GB that keeps some for everything else."""
COMPUTE_MIB = 1024
"""Approximate compute buffers of a large model; the operator computes them from the file."""


@dataclass(frozen=True)
class Entry:
    """One model with common settings."""

    name: str
    use: str
    file_gib: float
    context_mib: int
    tokens_per_second: int | None
    spec: Json

    @property
    def memory_mib(self) -> int:
        """Approximate GPU memory; the operator computes it from the file's header."""
        return round(self.file_gib * 1024) + self.context_mib + COMPUTE_MIB

    @property
    def resource(self) -> Json:
        return {
            "apiVersion": API_VERSION,
            "kind": "LlamaModel",
            "metadata": {"name": self.name},
            "spec": self.spec,
        }


def entries() -> list[Entry]:
    """Return the entries of `catalog.yaml`, in order."""
    text = (files("llama_halo.cli") / "catalog.yaml").read_text(encoding="utf-8")
    return [
        Entry(
            name=document["name"],
            use=document["for"],
            file_gib=document["fileGiB"],
            context_mib=document["contextMiB"],
            tokens_per_second=document.get("tokensPerSecond"),
            spec=document["spec"],
        )
        for document in yaml.safe_load(text)
    ]


def run(argv: list[str]) -> int:
    """Print the catalog, or the named models as resources; return 1 if they do not fit together."""
    arguments = _parser().parse_args(argv)
    budget_mib = _budget(arguments.budget)
    entries_by_name = {entry.name: entry for entry in entries()}
    unknown = [name for name in arguments.names if name not in entries_by_name]
    if unknown:
        raise CliError(
            f"{', '.join(unknown)}: not in the catalog, which has: {', '.join(entries_by_name)}"
        )
    if not arguments.names:
        print("\n".join(_table(list(entries_by_name.values()), budget_mib)))
        return 0
    chosen = [entries_by_name[name] for name in dict.fromkeys(arguments.names)]
    print(yaml.safe_dump_all([entry.resource for entry in chosen], sort_keys=False), end="")
    advice, fits = together(chosen, budget_mib)
    print(advice, file=sys.stderr)
    return 0 if fits else 1


def together(chosen: list[Entry], budget_mib: int) -> tuple[str, bool]:
    """Return advice for running the models on one machine, and whether they fit together."""
    limit = human_gib(budget_mib)
    too_large = [entry.name for entry in chosen if entry.memory_mib > budget_mib]
    if too_large:
        names = ", ".join(too_large)
        advice = f"# {names}: more than the {limit} of a machine even alone: choose a smaller model"
        return f"{advice}, or lower contextSize", False
    needed = sum(entry.memory_mib for entry in chosen)
    if needed <= budget_mib:
        return f"# together about {human_gib(needed)} of {limit}", True
    advice = (
        f"# together about {human_gib(needed)}, and a machine has {limit}: set"
        " activation: {onDemand: {}} on some of them, and they take turns"
    )
    return advice, False


def companion_of(entry: Entry, candidates: list[Entry], budget_mib: int) -> str:
    """Return the largest other model that fits beside one, `-` when none does."""
    rest = budget_mib - entry.memory_mib
    fitting = [
        candidate
        for candidate in candidates
        if candidate is not entry and candidate.memory_mib <= rest
    ]
    return max(fitting, key=lambda entry: entry.memory_mib).name if fitting else "-"


def _budget(text: str) -> int:
    try:
        return mebibytes(text)
    except ArithmeticError as error:
        raise CliError(f"--budget {text}: must be a quantity like 104Gi") from error


def _table(listed: list[Entry], budget_mib: int) -> list[str]:
    rows = [("NAME", "FILE", "CTX", "MEMORY", "TOK/S", "FITS BESIDE", "FOR")]
    rows += [
        (
            entry.name,
            f"{entry.file_gib:.1f}Gi",
            str(entry.spec.get("contextSize", "")),
            human_gib(entry.memory_mib),
            str(entry.tokens_per_second or ""),
            companion_of(entry, listed, budget_mib),
            entry.use,
        )
        for entry in listed
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(6)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[6]])
        for row in rows
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-halo catalog")
    parser.add_argument("names", nargs="*", metavar="NAME", help="print these as resources")
    parser.add_argument(
        "--budget", default=USUAL_BUDGET, help=f"of a machine's GPU memory ({USUAL_BUDGET})"
    )
    return parser
