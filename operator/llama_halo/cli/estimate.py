"""`llama-halo estimate FILE|URL|hf:REPO/FILE|NAME`: show a model's memory, and what fits."""

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
from llama_halo.errors import ClusterError, SourceMissing, UnsupportedModel
from llama_halo.gguf.bundle import Bundle
from llama_halo.gguf.companions import ADAPTER, PROJECTOR, companion
from llama_halo.gguf.fit import longest_context
from llama_halo.gguf.header import Header
from llama_halo.gguf.memory import CACHE_TYPES, MIB, Estimate, Serving
from llama_halo.gguf.profile import profile
from llama_halo.kube.resources import LLAMAMODEL
from llama_halo.plan.model_files import parts
from llama_halo.plan.sizing import DEFAULT_CONTEXT_SIZE, bundle_of, serving_of
from llama_halo.status.jobs import inspection_from

GIB = 2**30
BUDGETS_GIB = (32, 64, 96, 104, 112)
BESIDE = ("projector", "draft", "adapters")
"""Parts of an estimate besides the model itself."""
USUAL_BUDGET_GIB = 104
"""GPU memory of a machine of 128 GB that keeps some for everything else."""


def run(argv: list[str]) -> int:
    """Print an estimate, as text or JSON."""
    arguments = _parser().parse_args(argv)
    title, bundle, usual = _read_bundle(arguments)
    bundle = _with_companions(bundle, arguments)
    serving = _serving(arguments, usual)
    estimate = bundle.estimate(serving)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if arguments.output == "json":
        print(json.dumps(_as_json(estimate)))
    else:
        print("\n".join(_lines(title, bundle, serving, estimate)))
    return 0


def _read_bundle(arguments: argparse.Namespace) -> tuple[str, Bundle, Serving]:
    """Return a title, the bundle, and the settings that apply without options."""
    source = arguments.source
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", source) and not Path(source).exists():
        spec, bundle = asyncio.run(_of_cluster(arguments.namespace, source))
        return f"{arguments.namespace}/{source}", bundle, serving_of(spec, bundle.model)
    header = read_model_header(source)
    model = profile(header, source)
    serving = Serving(min(model.model.context_length, DEFAULT_CONTEXT_SIZE))
    return _name(header), Bundle(model), serving


def _with_companions(bundle: Bundle, arguments: argparse.Namespace) -> Bundle:
    """Return the bundle with the projector, draft and adapters of the command line."""
    if arguments.projector:
        header = read_model_header(arguments.projector)
        bundle = replace(bundle, projector=companion(header, PROJECTOR))
    if arguments.draft:
        draft = profile(read_model_header(arguments.draft), arguments.draft)
        bundle = replace(bundle, draft=draft, uses_mtp=False)
    if arguments.mtp:
        bundle = replace(bundle, draft=None, uses_mtp=True)
    if arguments.adapter:
        adapters = {
            adapter: companion(read_model_header(adapter), ADAPTER) for adapter in arguments.adapter
        }
        bundle = replace(bundle, adapters=adapters)
    return bundle


async def _of_cluster(namespace: str, name: str) -> tuple[LlamaModelSpec, Bundle]:
    """Return a LlamaModel's spec, and the bundle from the headers in its status."""
    from llama_halo.kube.client import KubeClient  # noqa: PLC0415  (the import takes a second)

    cluster = await KubeClient.connect()
    try:
        cr = await cluster.get(LLAMAMODEL, namespace, name)
    except ClusterError as error:
        raise SourceMissing(
            f"there is no file {name}, and no LlamaModel {namespace}/{name} ({error})"
        ) from error
    finally:
        await cluster.close()
    spec = LlamaModelSpec.model_validate(cr["spec"])
    inspections = [
        inspection_from(entry) for entry in (cr.get("status") or {}).get("inspected") or ()
    ]
    by_role = {inspection.role: inspection for inspection in inspections}
    bundle, missing = (
        bundle_of(spec, by_role),
        [p.role for p in parts(spec) if p.role not in by_role],
    )
    if bundle is None or missing:
        raise SourceMissing(
            f"LlamaModel {namespace}/{name}: the header of the file for {', '.join(missing)} has"
            " not been read (see kubectl get llamamodel; with memory and contextSize in the spec"
            " those of files in the store never are): name the files"
        )
    return spec, bundle


def _serving(arguments: argparse.Namespace, usual: Serving) -> Serving:
    """Return the settings with the options of the command line."""
    overrides = {
        "context_size": arguments.context,
        "parallel": arguments.parallel,
        "k_type": arguments.cache_type_k,
        "v_type": arguments.cache_type_v,
        "micro_batch": arguments.ubatch,
        "flash_attention": arguments.flash_attention and arguments.flash_attention == "on",
        "full_window_cache": arguments.swa_full or None,
        "drafted_tokens": arguments.draft_tokens,
    }
    serving = replace(
        usual, **{name: value for name, value in overrides.items() if value is not None}
    )
    return replace(serving, batch=max(serving.micro_batch, serving.batch))


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
    parser.add_argument("--projector", metavar="FILE", help="of images or audio (mmproj)")
    drafts = parser.add_mutually_exclusive_group()
    drafts.add_argument("--draft", metavar="FILE", help="a small model that drafts tokens")
    drafts.add_argument("--mtp", action="store_true", help="the model drafts by its own layers")
    parser.add_argument("--draft-tokens", type=_positive, metavar="TOKENS", help="at once")
    parser.add_argument("--adapter", action="append", metavar="FILE", help="LoRA; may be repeated")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 12 else 0
    if not 0 < number < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return number


def _as_json(estimate: Estimate) -> dict[str, object]:
    parts = ("weights", "kv_cache", "state", "compute", *BESIDE, "host", "total")
    sizes = {f"{part}_mib": getattr(estimate, part) / MIB for part in parts}
    return {"architecture": estimate.architecture, **sizes, "method": str(estimate.method)}


def _lines(title: str, bundle: Bundle, serving: Serving, estimate: Estimate) -> Iterator[str]:
    model = bundle.model
    yield (
        f"{title}: {estimate.architecture}, {model.parameters / 1e9:.1f}B parameters,"
        f" {model.quantization or 'no weights'}, trained for {model.model.context_length} tokens"
    )
    yield (
        f"{serving.context_size} tokens, requests at once: {serving.parallel},"
        f" cache {serving.k_type}/{serving.v_type}, ubatch {serving.micro_batch}"
    )
    yield ""
    for name, size, note in (
        ("weights", estimate.weights, ""),
        ("KV cache", estimate.kv_cache, ""),
        ("state", estimate.state, ""),
        ("compute", estimate.compute, "at most"),
        ("projector", estimate.projector, "with the largest image, at most"),
        ("draft", estimate.draft, "its weights, KV cache and compute buffers"),
        ("adapters", estimate.adapters, ""),
        ("GPU", estimate.gpu, "the sum of these: spec.memory.gpu"),
        ("host", estimate.host, "the process, its prompt cache and slots: spec.memory.host"),
        ("total", estimate.total, str(estimate.method)),
    ):
        if size:
            yield f"{name:<10}{size / MIB:>12.1f} MiB  {note}".rstrip()
    yield from _contexts(bundle, serving)
    yield from _hint(bundle, serving, estimate)


def _name(header: Header) -> str:
    """Return the model's name without unprintable characters: the file is not trusted."""
    name = "".join(
        character for character in header.text("general.name")[:100] if character.isprintable()
    )
    return name or "model"


def _contexts(bundle: Bundle, serving: Serving) -> Iterator[str]:
    if not any(layer.k_values or layer.v_values for layer in bundle.model.model.layers):
        return  # without a KV cache, a longer context takes no memory
    yield ""
    yield f"{'GPU memory':<14}{'context that fits':>20}{'with a q8_0 cache':>20}"
    for gib in BUDGETS_GIB:
        cells = [_longest(bundle, settings, gib) for settings in (serving, _quantized(serving))]
        yield f"{gib:>6} GiB    " + "".join(f"{cell:>20}" for cell in cells)


def _hint(bundle: Bundle, serving: Serving, estimate: Estimate) -> Iterator[str]:
    """Yield advice for a model that does not fit in a machine of 128 GB."""
    budget = USUAL_BUDGET_GIB * GIB
    if estimate.gpu <= budget:
        return
    yield ""
    yield f"It needs more than the {USUAL_BUDGET_GIB} GiB of a machine of 128 GB."
    try:
        smaller = bundle.estimate(_quantized(serving))
    except UnsupportedModel:
        smaller = estimate
    if smaller.gpu <= budget:
        yield (
            f"--cache-type-k q8_0 --cache-type-v q8_0 needs {smaller.gpu / GIB:.1f} GiB, and fits"
        )
    elif tokens := longest_context(bundle, serving, budget):
        yield f"--context {tokens} fits"
    else:
        yield "No context fits: take a smaller quantization of it."


def _quantized(serving: Serving) -> Serving:
    return replace(serving, k_type="q8_0", v_type="q8_0", flash_attention=True)


def _longest(bundle: Bundle, serving: Serving, gib: int) -> str:
    try:
        tokens = longest_context(bundle, serving, gib * GIB)
    except UnsupportedModel:
        return "not possible"
    if not tokens:
        return "none"
    return f"{tokens} (all)" if tokens >= bundle.model.model.context_length else str(tokens)
