"""`llama-halo catalog [NAME…]`: models for Strix Halo as resources, and what fits together."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from llama_halo.api import API_VERSION
from llama_halo.errors import SettingsError
from llama_halo.plan.quantity import human_gib, mebibytes

Json = dict[str, Any]
USUAL_BUDGET = "104Gi"
"""What a machine of 128 GB has for its GPU when some is left for the rest."""
COMPUTE_MIB = 1024
"""For the buffers of a large model's work, about; the operator computes it from the file."""


@dataclass(frozen=True)
class Entry:
    """One model, as people run it."""

    name: str
    use: str
    file_gib: float
    context_mib: int
    tokens_per_second: int | None
    spec: Json

    @property
    def memory_mib(self) -> int:
        """Of the GPU, about: what counts is the file's own header, once it is read."""
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
    """Return the catalog."""
    text = (files("llama_halo.cli") / "catalog.yaml").read_text(encoding="utf-8")
    return [
        Entry(
            name=each["name"],
            use=each["for"],
            file_gib=each["fileGiB"],
            context_mib=each["contextMiB"],
            tokens_per_second=each.get("tokensPerSecond"),
            spec=each["spec"],
        )
        for each in yaml.safe_load(text)
    ]


def run(words: list[str]) -> int:
    """Print the catalog, or the resources of some of it; 1 when those do not fit together."""
    arguments = _parser().parse_args(words)
    budget_mib = _budget(arguments.budget)
    known = {each.name: each for each in entries()}
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        raise SettingsError(f"{', '.join(unknown)}: not in the catalog: {', '.join(known)}")
    if not arguments.names:
        print("\n".join(_table(list(known.values()), budget_mib)))
        return 0
    chosen = [known[name] for name in dict.fromkeys(arguments.names)]
    print(yaml.safe_dump_all([each.resource for each in chosen], sort_keys=False), end="")
    told, fits = together(chosen, budget_mib)
    print(told, file=sys.stderr)
    return 0 if fits else 1


def together(chosen: list[Entry], budget_mib: int) -> tuple[str, bool]:
    """Return whether models fit on one machine at the same time, in a sentence."""
    limit = human_gib(budget_mib)
    too_large = [each.name for each in chosen if each.memory_mib > budget_mib]
    if too_large:
        told = f"# {', '.join(too_large)}: alone more than the {limit} of a machine: take a smaller"
        return f"{told} one, or less contextSize", False
    needed = sum(each.memory_mib for each in chosen)
    if needed <= budget_mib:
        return f"# together about {human_gib(needed)} of {limit}", True
    told = (
        f"# together about {human_gib(needed)}, and a machine has {limit}: give some of them"
        " activation: {onDemand: {}}, and they take turns"
    )
    return told, False


def beside(entry: Entry, known: list[Entry], budget_mib: int) -> str:
    """Return the largest other model that fits beside one, `-` when none does."""
    rest = budget_mib - entry.memory_mib
    fitting = [each for each in known if each is not entry and each.memory_mib <= rest]
    return max(fitting, key=lambda each: each.memory_mib).name if fitting else "-"


def _budget(text: str) -> int:
    try:
        return mebibytes(text)
    except ArithmeticError as error:
        raise SettingsError(f"--budget {text}: must be a quantity like 104Gi") from error


def _table(found: list[Entry], budget_mib: int) -> list[str]:
    rows = [("NAME", "FILE", "CTX", "MEMORY", "TOK/S", "FITS BESIDE", "FOR")]
    rows += [
        (
            each.name,
            f"{each.file_gib:.1f}Gi",
            str(each.spec.get("contextSize", "")),
            human_gib(each.memory_mib),
            str(each.tokens_per_second or ""),
            beside(each, found, budget_mib),
            each.use,
        )
        for each in found
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
