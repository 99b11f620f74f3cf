"""Derives from a header what each layer stores per token and per request, as llama.cpp does."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from llama_halo.errors import DamagedGGUF, UnsupportedModel
from llama_halo.gguf import architectures as arch
from llama_halo.gguf.header import Header

MAX_LAYERS = 512
MAX_WIDTH = 2**20
"""Limit of the values that one layer stores per token; no model has a hundredth of it."""
PER_LAYER = "embedding_length_per_layer_input"


@dataclass(frozen=True)
class Layer:
    """The values that one layer stores: per cell of its cache, and in its recurrent state."""

    attends: bool = False
    """Whether the layer is in the KV cache, even with no values."""
    k_values: int = 0
    v_values: int = 0
    windowed: bool = False
    indexer_k_values: int = 0
    """Keys of a sparse attention's indexer, stored for the whole context."""
    indexer_v_values: int = 0
    state_values: int = 0
    """32-bit floats for each request in flight."""


@dataclass(frozen=True)
class Dimensions:
    """The properties of a model that its memory depends on."""

    architecture: str
    context_length: int
    """Trained, tokens."""
    layers: tuple[Layer, ...]
    drafting: tuple[Layer, ...]
    """Layers that only draft tokens (multi-token prediction); they have a context of their own."""
    widest_values: int
    """Values per token in the widest layer, including drafting layers."""
    window_tokens: int
    """The window of the windowed layers; 0 without any."""
    embedding: int
    vocabulary: int
    heads: int
    feed_forward: int
    """Values per token in the widest layer, over all experts that it uses."""
    input_values: int
    """Values per token of the inputs of single layers, over all layers."""
    latent: bool
    rolls_back: bool
    head_lengths: tuple[int, int]
    """Lengths of a key head and of a value head."""
    known: bool
    """Whether the tables have llama.cpp's rules for the architecture."""


def dimensions(header: Header) -> Dimensions:
    """Derive the dimensions of a model.

    Raises `UnsupportedModel` for an unknown architecture whose memory has no bound, and
    `DamagedGGUF` for impossible or missing numbers.
    """
    name = header.text("general.architecture")
    reader = _Reader(header)
    layers = reader.layers()
    return Dimensions(
        architecture=name,
        context_length=reader.number("context_length", 1, 2**31),
        layers=layers,
        drafting=reader.drafting(),
        widest_values=reader.widest_values(),
        window_tokens=reader.window if any(layer.windowed for layer in layers) else 0,
        embedding=reader.embedding,
        vocabulary=reader.vocabulary(),
        heads=max(reader.heads, default=0),
        feed_forward=reader.feed_forward(),
        input_values=reader.blocks * reader.number(PER_LAYER, 0, MAX_WIDTH, default=0),
        latent=reader.latent,
        rolls_back=name in arch.ROLLS_BACK or not reader.known,
        head_lengths=(reader.key_length(windowed=False), reader.value_length(windowed=False)),
        known=reader.known,
    )


class _Reader:
    """Reads and checks the numbers of one header; names are those of the GGUF keys."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self.architecture = header.text("general.architecture")
        if not re.fullmatch(r"[a-z0-9_.-]{1,64}", self.architecture):
            raise DamagedGGUF("general.architecture is missing or no name: it is no model")
        self.known = self.architecture in arch.KNOWN
        self.embedding = self.number("embedding_length", 1, MAX_WIDTH)
        self.blocks = self.number("block_count", 1, MAX_LAYERS)
        self.nextn = self.number("nextn_predict_layers", 0, self.blocks, default=0)
        self.trunk = self.blocks - self.nextn
        self.heads = self.per_layer("attention.head_count", 0)
        self.kv_heads = self.per_layer("attention.head_count_kv", None) or self.heads
        self.widths = self.per_layer("feed_forward_length", 0)
        lengths = [self._small(f"attention.{part}_length_mla") for part in ("key", "value")]
        self.latent = self.architecture in arch.LATENT and all(lengths)
        self.window, self.windowed = self._windows()
        self.recurrent = self._recurrent()
        if not any(self.heads) and not self.known:
            raise UnsupportedModel(
                f"{self.architecture} is not known, and the file does not say"
                f" {self.architecture}.attention.head_count: its memory cannot be bounded"
            )

    def number(self, key: str, least: int, most: int, *, default: int | None = None) -> int:
        """Return `<architecture>.<key>`; raises `DamagedGGUF` if it is out of bounds."""
        value = self._header.metadata.get(f"{self.architecture}.{key}", default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise DamagedGGUF(
                f"{self.architecture}.{key} is {_shown(value)}, not a number from {least} to {most}"
            )
        return value

    def per_layer(self, key: str, default: int | None) -> list[int]:
        """Return a number for each layer; the file has one for all, or an array."""
        name = f"{self.architecture}.{key}"
        if name in self._header.array_lengths:
            values = self._array(key)
            if len(values) != self.blocks or not all(0 <= value <= MAX_WIDTH for value in values):
                raise DamagedGGUF(f"{name} is not one number from 0 for each of its layers")
            return values
        if name not in self._header.metadata:
            return [] if default is None else [default] * self.blocks
        return [self.number(key, 0, MAX_WIDTH)] * self.blocks

    def key_length(self, *, windowed: bool) -> int:
        return self._head_length("key", windowed=windowed)

    def value_length(self, *, windowed: bool) -> int:
        return self._head_length("value", windowed=windowed)

    def vocabulary(self) -> int:
        """Return the number of tokens; files without a tokenizer may have `vocab_size`."""
        listed = self._header.array_lengths.get("tokenizer.ggml.tokens", 0)
        return listed or self.number("vocab_size", 0, 2**24, default=0)

    def feed_forward(self) -> int:
        """Return the feed-forward values per token in the widest layer."""
        dense = max(self.widths, default=0)
        expert = self._largest("expert_feed_forward_length") or dense
        shared = self._largest("expert_shared_feed_forward_length")
        return max(dense, self._largest("expert_used_count") * expert + shared)

    def layers(self) -> tuple[Layer, ...]:
        """Return the layers of the main context; drafting layers have another context."""
        if self.architecture in arch.NO_CACHE:
            return ()
        layers = [self._layer(index) for index in range(self._cached_layers())]
        if self.architecture == "nanbeige":  # it runs its layers several times
            layers *= self.number("num_loops", 1, MAX_LAYERS, default=1)
        if len(layers) > MAX_LAYERS:
            raise DamagedGGUF(f"{len(layers)} layers are more than llama.cpp takes ({MAX_LAYERS})")
        return tuple(layers)

    def drafting(self) -> tuple[Layer, ...]:
        """Return the layers that only draft: they have attention, whatever the others have."""
        if self.trunk == 0 or (self.known and self.architecture not in arch.DRAFTS):
            return ()
        layers = [self._attending(index) for index in range(self.trunk, self.blocks)]
        if self.architecture in arch.DRAFTS_DENSELY:
            layers = [replace(layer, indexer_k_values=0, indexer_v_values=0) for layer in layers]
        return tuple(layers)

    def widest_values(self) -> int:
        return max(
            heads * self.value_length(windowed=windowed)
            for heads, windowed in zip(self.kv_heads, self.windowed, strict=True)
        )

    def _cached_layers(self) -> int:
        keeps_all = self.trunk == 0 or self.architecture in arch.KEEPS_DRAFTING_LAYERS
        return self.blocks if keeps_all or not self.known else self.trunk

    def _layer(self, index: int) -> Layer:
        recurrent = self.recurrent[index]
        attends = not recurrent or self.architecture == "falcon-h1" or not self.known
        if self.architecture in ("nemotron_h", "nemotron_h_moe") and self.widths[index]:
            attends = recurrent = False
        state = self._state_values(index) if recurrent else 0
        if not attends or index >= self._own_caches():
            return Layer(state_values=state)
        return replace(self._attending(index), state_values=state)

    def _attending(self, index: int) -> Layer:
        windowed = self.windowed[index]
        heads = self.kv_heads[index]
        indexer = self._indexer(index)
        return Layer(
            attends=True,
            k_values=_width(heads * self.key_length(windowed=windowed)),
            v_values=0 if self.latent else _width(heads * self.value_length(windowed=windowed)),
            windowed=windowed,
            indexer_k_values=indexer,
            indexer_v_values=self._indexer_values(indexer),
        )

    def _own_caches(self) -> int:
        if self.architecture == "gemma4":
            return self.blocks - self.number(
                "attention.shared_kv_layers", 0, self.blocks, default=0
            )
        return arch.SHARED_FROM.get(self.architecture, self.blocks)

    def _head_length(self, of: str, *, windowed: bool) -> int:
        if not any(self.heads):
            return 0
        # llama.cpp uses the first layer's heads; a file whose first layer has none sets the length.
        whole = self.embedding // (self.heads[0] or max(self.heads))
        length = self.number(f"attention.{of}_length", 0, MAX_WIDTH, default=whole)
        of_windows = self.number(f"attention.{of}_length_swa", 0, MAX_WIDTH, default=length)
        if not self.known:
            return max(length, of_windows)
        return of_windows if windowed else length

    def _windows(self) -> tuple[int, list[bool]]:
        """Return the window in tokens (0: none), and which layers have it."""
        none = 0, [False] * self.blocks
        rule, key = arch.WINDOWS.get(self.architecture), "attention.sliding_window"
        if self.architecture == "lfm2":
            tokens = self.number(key, 0, 2**31, default=0)
            return (tokens, [bool(kv_head) for kv_head in self.kv_heads]) if tokens else none
        if rule is None or (
            self.architecture == "exaone4" and self.trunk != arch.EXAONE4_WINDOWED_LAYERS
        ):
            return none
        default = 0 if rule.optional else rule.default or None
        tokens = self.number(key, 0, 2**31, default=default)
        if not tokens and (rule.optional or rule.fixed):
            return none
        return rule.fixed or tokens, self._pattern(rule)

    def _pattern(self, rule: arch.Window) -> list[bool]:
        key = "attention.sliding_window_pattern"
        if f"{self.architecture}.{key}" in self._header.array_lengths:
            listed = [bool(item) for item in self._array(key)]
            return (listed + [False] * self.blocks)[: self.blocks]
        period = self.number(key, 0, MAX_LAYERS, default=rule.period)
        full = 0 if rule.full_first else period - 1
        trunk = [period == 0 or index % period != full for index in range(self.trunk)]
        return trunk + [False] * self.nextn

    def _recurrent(self) -> list[bool]:
        name = self.architecture
        if not self.known:
            return [True] * self.blocks  # an upper bound: every layer counts with a state
        if name in arch.RECURRENT or name == "falcon-h1":
            return [index < self.trunk for index in range(self.blocks)]
        if name in arch.RECURRENT_WITHOUT_KV_HEADS:
            return [not heads and index < self.trunk for index, heads in enumerate(self.kv_heads)]
        if name in arch.RECURRENT_BY_INTERVAL:
            if f"{name}.attention.recurrent_layers" in self._header.array_lengths:
                listed = [bool(item) for item in self._array("attention.recurrent_layers")]
                return (listed + [False] * self.blocks)[: self.blocks]
            default = arch.RECURRENT_BY_INTERVAL[name]
            every = self.number("full_attention_interval", 1, MAX_LAYERS, default=default)
            return [index < self.trunk and (index + 1) % every != 0 for index in range(self.blocks)]
        return [False] * self.blocks

    def _state_values(self, index: int) -> int:
        """Return the values of a layer's convolution and recurrent state (n_embd_r + n_embd_s)."""
        heads = self.heads[0]
        if head_size := self._small("wkv.head_size"):
            shifts = self.number("token_shift_count", 0, 64, default=2)
            return self.embedding * (shifts + head_size)
        if cache := self._small("shortconv.l_cache"):
            return self.embedding * (cache - 1)
        kernel = self._small("ssm.conv_kernel")
        if head := self._small("kda.head_dim"):
            width = heads * head
            return 3 * (kernel - 1 if kernel else 3) * width + head * width
        if self.architecture == "minimax-01":
            head = self.key_length(windowed=False)
            return head * head * heads
        inner, state = self._small("ssm.inner_size"), self._small("ssm.state_size")
        groups = self._small("ssm.group_count")
        if self.architecture in arch.IGNORES_SSM_GROUPS:
            groups = 0
        convolution = max(kernel - 1, 0) * (inner + 2 * groups * state)
        return convolution + state * inner + self._ngram_values(index)

    def _ngram_values(self, index: int) -> int:
        """Return the values of qwen4exp's n-gram history, which one of its layers keeps."""
        if self.architecture != "qwen4exp" or index not in self._array("ple.layers"):
            return 0
        kernel, size = self._small("ple.conv_kernel"), self._small("ple.ngram_size")
        return max(kernel - 1, 0) * size * self._small("hyper_connection.count") * self.embedding

    def _indexer(self, index: int) -> int:
        """Return the values of an indexer's key in a layer, 0 where it has none."""
        length = self._small("attention.indexer.key_length")
        name = self.architecture
        if name == "minimax-m3":
            return length if index >= self._small("leading_dense_block_count") else 0
        if name == "deepseek32":
            return length
        if name == "qwen4exp":
            return length * (2 if any(self._array("attention.compress_ratios")) else 1)
        if name == "hy_v4" and not self._small("attention.indexer.top_k"):
            return 0
        if name in ("glm-dsa", "hy_v4", "glm5-next"):
            types = self._array("attention.indexer.types")
            has = index >= len(types) or bool(types[index])
            return length * (3 if name == "glm5-next" else 1) if has else 0
        return 0 if self.known else length

    def _indexer_values(self, keys: int) -> int:
        if not keys or self.latent or self.architecture == "qwen4exp":
            return 0
        return self.value_length(windowed=False)

    def _small(self, key: str) -> int:
        return self.number(key, 0, MAX_WIDTH, default=0)

    def _array(self, key: str) -> list[int]:
        """Return an array of whole numbers, empty when there is none."""
        name = f"{self.architecture}.{key}"
        values = self._header.metadata.get(name, ())
        if not isinstance(values, tuple):
            return []
        if not all(isinstance(value, int) for value in values):
            raise DamagedGGUF(f"{name} is no array of whole numbers")
        return [int(value) for value in values]

    def _largest(self, key: str) -> int:
        return max(self.per_layer(key, 0), default=0)


def _width(values: int) -> int:
    if values > MAX_WIDTH:
        raise DamagedGGUF(
            f"a layer keeps {values} values of a token, more than the maximum ({MAX_WIDTH})"
        )
    return values


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]
