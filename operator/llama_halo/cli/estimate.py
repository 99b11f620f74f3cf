"""`llama-halo estimate FILE|URL|hf:REPO/FILE|NAME`: how much memory a model needs; what fits."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.artifacts.sources import read_model_header
from llama_halo.cluster.resources import LLAMAMODEL
from llama_halo.errors import ClusterError, SourceMissing, UnsupportedModel
from llama_halo.gguf.fit import longest_context
from llama_halo.gguf.header import Header
from llama_halo.gguf.memory import CACHE_TYPES, MIB, Estimate, Serving, estimate
from llama_halo.gguf.profile import Profile, from_json, profile
from llama_halo.plan.sizing import serving_of

GIB = 2**30
BUDGETS_GIB = (32, 64, 96, 104, 112)
USUAL_BUDGET_GIB = 104
"""What a machine of 128 GB has for its GPU when some is left for the rest."""
DEFAULT_CONTEXT = 32768


def run(words: list[str]) -> int:
    """Print an estimate, for a person or as JSON."""
    arguments = _parser().parse_args(words)
    title, model, usual = _look(arguments)
    serving = _serving(arguments, usual)
    found = estimate(model.weights, model.model, serving)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if arguments.output == "json":
        print(json.dumps(_as_json(found)))
    else:
        print("\n".join(_lines(title, model, serving, found)))
    return 0


def _look(arguments: argparse.Namespace) -> tuple[str, Profile, Serving]:
    """Return a title, the model, and the settings that count where no option says otherwise."""
    source = arguments.source
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", source) and not Path(source).exists():
        spec, model = asyncio.run(_of_cluster(arguments.namespace, source))
        return f"{arguments.namespace}/{source}", model, serving_of(spec, model)
    header = read_model_header(source)
    model = profile(header, source)
    return _name(header), model, Serving(min(model.model.context_length, DEFAULT_CONTEXT))


async def _of_cluster(namespace: str, name: str) -> tuple[LlamaModelSpec, Profile]:
    """Return the spec of a LlamaModel, and what its status has of the file's header."""
    from llama_halo.cluster.rest import RestCluster  # noqa: PLC0415  (it takes a second)

    cluster = await RestCluster.connect()
    try:
        cr = await cluster.get(LLAMAMODEL, namespace, name)
    except ClusterError as error:
        raise SourceMissing(
            f"there is no file {name}, and no LlamaModel {namespace}/{name} ({error})"
        ) from error
    finally:
        await cluster.close()
    entries = (cr.get("status") or {}).get("inspected") or [{}]
    if "profile" not in entries[0]:
        raise SourceMissing(
            f"LlamaModel {namespace}/{name}: its file's header has not been read (see kubectl get"
            " llamamodel; with memory and contextSize in the spec it never is): name the file"
        )
    return LlamaModelSpec.model_validate(cr["spec"]), from_json(entries[0]["profile"])


def _serving(arguments: argparse.Namespace, usual: Serving) -> Serving:
    """Return the settings with what the command line says."""
    said = {
        "context_tokens": arguments.context,
        "parallel": arguments.parallel,
        "k_type": arguments.cache_type_k,
        "v_type": arguments.cache_type_v,
        "micro_batch": arguments.ubatch,
        "flash_attention": arguments.flash_attention and arguments.flash_attention == "on",
        "full_window_cache": arguments.swa_full or None,
    }
    found = replace(usual, **{name: each for name, each in said.items() if each is not None})
    return replace(found, batch=max(found.micro_batch, found.batch))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-halo estimate")
    parser.add_argument(
        "source",
        metavar="FILE|NAME",
        help="a path, an http(s) URL, hf:OWNER/REPO/FILE[@REVISION], or a LlamaModel of the"
        " cluster, whose own settings count then",
    )
    parser.add_argument("-n", "--namespace", default="default", help="of the LlamaModel")
    parser.add_argument("--context", type=_positive, metavar="TOKENS")
    parser.add_argument("--parallel", type=_positive, metavar="REQUESTS")
    parser.add_argument("--cache-type-k", choices=list(CACHE_TYPES))
    parser.add_argument("--cache-type-v", choices=list(CACHE_TYPES))
    parser.add_argument("--ubatch", type=_positive, metavar="TOKENS")
    parser.add_argument("--swa-full", action="store_true", help="no small cache for window layers")
    parser.add_argument("--flash-attention", choices=["on", "off"])
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 12 else 0
    if not 0 < number < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return number


def _as_json(found: Estimate) -> dict[str, object]:
    parts = ("weights", "kv_cache", "state", "compute", "host", "total")
    sizes = {f"{part}_mib": getattr(found, part) / MIB for part in parts}
    return {"architecture": found.architecture, **sizes, "method": str(found.method)}


def _lines(title: str, model: Profile, serving: Serving, found: Estimate) -> Iterator[str]:
    yield (
        f"{title}: {found.architecture}, {model.parameters / 1e9:.1f}B parameters,"
        f" {model.quantization or 'no weights'}, trained for {model.model.context_length} tokens"
    )
    yield (
        f"{serving.context_tokens} tokens, requests at once: {serving.parallel},"
        f" cache {serving.k_type}/{serving.v_type}, ubatch {serving.micro_batch}"
    )
    yield ""
    for name, size, note in (
        ("weights", found.weights, ""),
        ("KV cache", found.kv_cache, ""),
        ("state", found.state, ""),
        ("compute", found.compute, "at most"),
        ("GPU", found.gpu, "the sum of these: spec.memory.gpu"),
        ("host", found.host, "the process, its prompt cache and slots: spec.memory.host"),
        ("total", found.total, str(found.method)),
    ):
        if size:
            yield f"{name:<10}{size / MIB:>12.1f} MiB  {note}".rstrip()
    yield from _contexts(model, serving)
    yield from _hint(model, serving, found)


def _name(header: Header) -> str:
    """Return the model's name as it may go to a terminal: files come from anywhere."""
    found = "".join(each for each in header.text("general.name")[:100] if each.isprintable())
    return found or "model"


def _contexts(model: Profile, serving: Serving) -> Iterator[str]:
    if not any(layer.k_values or layer.v_values for layer in model.model.layers):
        return  # a longer text costs nothing
    yield ""
    yield f"{'GPU memory':<14}{'context that fits':>20}{'with a q8_0 cache':>20}"
    for gib in BUDGETS_GIB:
        cells = [_longest(model, each, gib) for each in (serving, _quantized(serving))]
        yield f"{gib:>6} GiB    " + "".join(f"{each:>20}" for each in cells)


def _hint(model: Profile, serving: Serving, found: Estimate) -> Iterator[str]:
    """Say what would make a model fit that a machine of 128 GB has no room for."""
    budget = USUAL_BUDGET_GIB * GIB
    if found.gpu <= budget:
        return
    yield ""
    yield f"It needs more than the {USUAL_BUDGET_GIB} GiB of a machine of 128 GB."
    try:
        smaller = estimate(model.weights, model.model, _quantized(serving))
    except UnsupportedModel:
        smaller = found
    if smaller.gpu <= budget:
        yield (
            f"--cache-type-k q8_0 --cache-type-v q8_0 needs {smaller.gpu / GIB:.1f} GiB, and fits"
        )
    elif tokens := longest_context(model.weights, model.model, serving, budget):
        yield f"--context {tokens} fits"
    else:
        yield "No context fits: take a smaller quantization of it."


def _quantized(serving: Serving) -> Serving:
    return replace(serving, k_type="q8_0", v_type="q8_0", flash_attention=True)


def _longest(model: Profile, serving: Serving, gib: int) -> str:
    try:
        tokens = longest_context(model.weights, model.model, serving, gib * GIB)
    except UnsupportedModel:
        return "not possible"
    if not tokens:
        return "none"
    return f"{tokens} (all)" if tokens >= model.model.context_length else str(tokens)
