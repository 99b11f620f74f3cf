"""The memory that llama-server needs for a model: by part, in bytes.

Weights, KV cache and state mirror `llama-context.cpp`, `llama-kv-cache*.cpp` and
`llama-memory-*.cpp` of llama.cpp b11434, and are exact for architectures in the tables. Compute
buffers have an upper bound. `tests/memory` compares the numbers with llama.cpp itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from llama_halo.errors import UnsupportedModel
from llama_halo.gguf import architectures
from llama_halo.gguf.header import Header
from llama_halo.gguf.layers import Dimensions

CELLS = 256
"""Caches are padded to a multiple of this many cells."""
MAX_SEQUENCES = 256
MIB = 2**20
HOST_BASE_BYTES = 512 * MIB
SLOT_BYTES = 256 * MIB
INPUT_BYTES = 256
"""Inputs of one token: its id, positions, sequence and the like."""
CACHE_TYPES = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q5_1": (32, 24),
    "q5_0": (32, 22),
    "q4_1": (32, 20),
    "q4_0": (32, 18),
    "iq4_nl": (32, 18),
}
"""Values and bytes of a block, by llama.cpp's name for the type."""


class Method(StrEnum):
    """How reliable an estimate is."""

    EXACT = "Exact"
    """Weights, KV cache and state are llama.cpp's own numbers."""
    UPPER_BOUND = "UpperBound"
    """The architecture is not in the tables: every layer counts with all it may store."""


@dataclass(frozen=True)
class Serving:
    """The settings of llama-server that its memory depends on; defaults are the operator's."""

    context_size: int
    parallel: int = 1
    unified: bool = True
    """Requests share the whole context; else each has an equal part of it."""
    k_type: str = "f16"
    v_type: str = "f16"
    batch: int = 2048
    micro_batch: int = 512
    flash_attention: bool = True
    full_window_cache: bool = False
    """`--swa-full`: sliding-window layers keep the whole context."""
    prompt_cache_mib: int = 2048
    drafted_tokens: int = 0
    """Tokens that speculative decoding drafts at once; some models keep a state for each."""
    image_tokens: int = 0
    """`--image-max-tokens`; 0 is llama.cpp's own limit."""


@dataclass(frozen=True)
class Estimate:
    """The memory of a server by part, in bytes."""

    architecture: str
    weights: int
    kv_cache: int
    state: int
    compute: int
    host: int
    """Host memory besides the model: the process, the prompt cache, and each slot."""
    method: Method
    projector: int = 0
    draft: int = 0
    adapters: int = 0

    @property
    def gpu(self) -> int:
        """GPU memory when every layer is on the GPU."""
        own = self.weights + self.kv_cache + self.state + self.compute
        return own + self.projector + self.draft + self.adapters

    @property
    def total(self) -> int:
        return self.gpu + self.host


def estimate(weights: int, model: Dimensions, serving: Serving) -> Estimate:
    """Return the memory of a model with `weights` bytes of weights and these settings.

    Raises `UnsupportedModel` for settings with which llama.cpp would not start.
    """
    check(model, serving)
    return Estimate(
        architecture=model.architecture,
        weights=weights,
        kv_cache=kv_cache_bytes(model, serving),
        state=state_bytes(model, serving),
        compute=compute_bound_bytes(model, serving),
        host=HOST_BASE_BYTES + serving.prompt_cache_mib * MIB + serving.parallel * SLOT_BYTES,
        method=Method.EXACT if model.known else Method.UPPER_BOUND,
    )


def weight_bytes(header: Header, model: Dimensions) -> int:
    """Return the bytes of all weights, as a server with a GPU loads them.

    A model without an output tensor uses its token embeddings as output. The server then loads them
    twice: in host memory for the lookup of tokens, and on the GPU.
    """
    tied = (
        "output.weight" not in header.tensors and model.architecture not in architectures.NO_CACHE
    )
    return header.tensor_bytes + (header.tensors.get("token_embd.weight", 0) if tied else 0)


def check(model: Dimensions, serving: Serving) -> None:
    """Raise `UnsupportedModel` for settings that llama.cpp refuses."""
    quantized_v = CACHE_TYPES[serving.v_type][0] > 1
    if serving.parallel > MAX_SEQUENCES:
        raise UnsupportedModel(
            f"parallel: {serving.parallel} is more than llama.cpp takes ({MAX_SEQUENCES})"
        )
    if quantized_v and not _flash_attention(model, serving):
        raise UnsupportedModel(f"cacheType.v: {serving.v_type} needs flash attention")
    if model.latent and serving.k_type != serving.v_type:
        raise UnsupportedModel(
            f"cacheType: k is {serving.k_type} and v is {serving.v_type}, and {model.architecture}"
            " keeps both in one: give both the same type"
        )
    for field, name, length in zip(
        ("k", "v"), (serving.k_type, serving.v_type), model.head_lengths, strict=True
    ):
        if length % CACHE_TYPES[name][0]:
            raise UnsupportedModel(
                f"cacheType.{field}: {name} needs heads of a multiple of {CACHE_TYPES[name][0]}"
                f" values, {model.architecture} has {length}: use f16"
            )


def sequence_tokens(serving: Serving) -> int:
    """Return the cells of one sequence's cache, in the layers without a window."""
    whole = _padded(serving.context_size)
    if serving.unified:
        return whole
    return _padded(whole // serving.parallel)


def kv_cache_bytes(model: Dimensions, serving: Serving) -> int:
    """Return the bytes of all KV caches, including those of indexers."""
    streams = 1 if serving.unified else serving.parallel
    whole = sequence_tokens(serving)
    windowed = whole if serving.full_window_cache else _window_cells(model, serving, whole)
    # Without flash attention, values are stored transposed, at the widest layer's size in each.
    transposed = not _flash_attention(model, serving) and not model.latent
    total = 0
    for layer in model.layers:
        cells = windowed if layer.windowed else whole
        values = model.widest_values if transposed and layer.attends else layer.v_values
        of_cell = _bytes(layer.k_values, serving.k_type) + _bytes(values, serving.v_type)
        of_indexer = _bytes(layer.indexer_k_values, serving.k_type) + _bytes(
            layer.indexer_v_values, serving.v_type
        )
        total += cells * of_cell + whole * of_indexer
    return streams * total


def state_bytes(model: Dimensions, serving: Serving) -> int:
    """Return the bytes of recurrent states: 32-bit floats, whatever the cache's type."""
    copies = 1 + (serving.drafted_tokens if model.rolls_back else 0)
    values = sum(layer.state_values for layer in model.layers)
    return values * 4 * max(1, serving.parallel) * copies


def drafting_bytes(model: Dimensions, serving: Serving) -> int:
    """Return the bytes of the second context of a model that drafts with its own layers: the
    cache of those layers, and a bound on the compute buffers."""
    head = replace(model, layers=model.drafting)
    alone = replace(serving, drafted_tokens=0)
    return kv_cache_bytes(head, alone) + compute_bound_bytes(head, alone)


def compute_bound_bytes(model: Dimensions, serving: Serving) -> int:
    """Return an upper bound on the compute buffers of a batch, in bytes.

    It counts for each token the attention mask, some copies of the residual stream, and the widest
    of logits, feed-forward and heads. The factors are fitted from above to what llama.cpp reserves
    for the graphs of real models. A running server reserves less: it needs few tokens' logits.
    """
    tokens = min(serving.batch, serving.micro_batch)
    name, whole_text = model.architecture, model.architecture in architectures.NO_CACHE
    attends = whole_text or any(layer.attends for layer in model.layers)
    cells = (tokens if whole_text else sequence_tokens(serving)) if attends else 0
    windowed = any(layer.windowed for layer in model.layers)
    indexed = any(layer.indexer_k_values for layer in model.layers)
    of_cell = 4 if windowed or whole_text or not model.known else 2
    if indexed:
        of_cell += 14 if model.latent else 38
    if not _flash_attention(model, serving):
        of_cell += 4 * model.heads + 4
    encodes = name in architectures.ENCODERS
    logits = 0 if encodes else 4 * model.vocabulary * architectures.LOGITS_COPIES.get(name, 1)
    heads = (16 if indexed else 8) * model.heads * sum(model.head_lengths)
    widest = max(logits, 16 * model.feed_forward, heads)
    inputs = INPUT_BYTES + 8 * model.input_values
    if name in architectures.DECAYS_BY_PAIRS:
        inputs += 4 * model.heads * tokens
    # The states of one layer are gathered for the sequences of a batch, and written back.
    states = max((layer.state_values for layer in model.layers), default=0) * 8 * serving.parallel
    return tokens * (of_cell * cells + 24 * model.embedding + widest + inputs) + states


def _flash_attention(model: Dimensions, serving: Serving) -> bool:
    return serving.flash_attention and model.architecture not in architectures.NO_FLASH_ATTENTION


def _window_cells(model: Dimensions, serving: Serving, whole: int) -> int:
    sequences = serving.parallel if serving.unified else 1
    tokens = min(serving.batch, serving.micro_batch)
    return _padded(min(whole, model.window_tokens * sequences + tokens))


def _bytes(values: int, cache_type: str) -> int:
    block, size = CACHE_TYPES[cache_type]
    return values * size // block


def _padded(cells: int) -> int:
    return (cells + CELLS - 1) // CELLS * CELLS
