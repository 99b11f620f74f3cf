"""Tables of the differences in memory between llama.cpp's architectures; `layers` applies them.

The source is `src/models/*.cpp`, `llama_model::create_memory` and `llama-hparams.cpp` of llama.cpp
b11434. An architecture in none of them has one plain cache for all of its layers. An architecture
that is not in `KNOWN` gets an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """How an architecture determines its sliding-window layers.

    The window is `attention.sliding_window`, which is required unless there is a `default`. The
    pattern is the array `attention.sliding_window_pattern`, else a period: one layer of each
    `period` has no window, the last or, with `full_first`, the first.
    """

    period: int = 0
    full_first: bool = False
    default: int = 0
    fixed: int = 0
    """llama.cpp uses this instead of the key, unless the key is 0."""
    optional: bool = False
    """Without the key, or with 0, no layer has a window."""


WINDOWS = {
    "afmoe": Window(4, optional=True),
    "cohere2": Window(4),
    "cohere2moe": Window(4, full_first=True),
    "exaone-moe": Window(4),
    "exaone4": Window(4, default=4096),
    "gemma2": Window(2, default=4096),
    "gemma3": Window(6, optional=True),
    "gemma3n": Window(5),
    "gemma4": Window(),
    "gpt-oss": Window(2),
    "granite_swa": Window(),
    "laguna": Window(4, full_first=True, optional=True),
    "llama4": Window(4, default=8192, fixed=8192),
    "maple": Window(),
    "mellum": Window(4, optional=True),
    "mimo2": Window(),
    "muse-glimmer": Window(4),
    "olmo2": Window(4, optional=True),
    "plamo3": Window(8, optional=True),
    "smallthinker": Window(4, full_first=True, fixed=4096, optional=True),
    "spark2_5": Window(),
    "step35": Window(),
}
EXAONE4_WINDOWED_LAYERS = 64
"""exaone4 has windows only in the model with this many layers."""

ENCODERS = frozenset(
    {
        *("bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert"),
        *("eurobert", "modern-bert", "gemma-embedding"),
    }
)
NO_CACHE = ENCODERS | {"dream", "llada", "llada-moe", "rnd1"}
"""Encoders and diffusion models have no cache: they process the whole text at once."""

LOGITS_COPIES = {"chameleon": 2}
DECAYS_BY_PAIRS = frozenset({"minimax-01", "kimi-linear"})
"""The compute buffers have a factor for each pair of tokens of a batch and each head."""

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
RECURRENT_WITHOUT_KV_HEADS = frozenset(
    {
        *("jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "bailingmoe3"),
        *("kimi-linear", "kimi-k3", "glm5-next", "nemotron_h", "nemotron_h_moe"),
    }
)
"""A layer is recurrent if it has no KV heads (for nemotron: and no feed-forward)."""
KEEPS_DRAFTING_LAYERS = RECURRENT_WITHOUT_KV_HEADS | {"falcon-h1", "minimax-m3", "hy_v4"}
"""The main context also has caches for the layers that only draft."""
RECURRENT_BY_INTERVAL = {
    "qwen3next": 4,
    "qwen35": 4,
    "qwen35moe": 4,
    "qwen4exp": 4,
    "minimax-01": 8,
}
"""All but every n-th layer are recurrent, unless `attention.recurrent_layers` lists them."""
IGNORES_SSM_GROUPS = frozenset({"mamba", "jamba"})
ROLLS_BACK = frozenset(
    {
        *("qwen35", "qwen35moe", "qwen4exp", "deepseek4", "kimi-k3", "glm5-next", "lfm2"),
        *("lfm2moe", "bailingmoe3", "nemotron_h", "nemotron_h_moe"),
    }
)
"""Speculative decoding keeps a state for each drafted token."""

DRAFTS = frozenset(
    {
        *("bailingmoe3", "cohere2moe", "deepseek2", "deepseek32", "glm-dsa", "glm4moe", "hy_v3"),
        *("mimo2", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next", "qwen4exp", "step35"),
    }
)
"""llama.cpp drafts with these models' own layers for multi-token prediction."""
DRAFTS_DENSELY = frozenset({"deepseek32", "glm-dsa"})
"""The drafting layers have no indexer, unlike the other layers."""

LATENT = frozenset(
    {
        *("deepseek2", "deepseek32", "glm-dsa", "mistral4", "hy_v4", "bailingmoe3"),
        *("kimi-linear", "kimi-k3", "glm5-next"),
    }
)
"""MLA: files with the `_mla` lengths cache one latent vector and no values."""

NO_FLASH_ATTENTION = frozenset({"grok"})
"""llama.cpp disables flash attention for these, whatever the setting."""

SHARED_FROM = {"gemma3n": 20}
"""Layers from this index on use the caches of earlier ones; gemma4's file has the number."""

_UNVERIFIED = frozenset({"glm5-next", "plm", "rwkv6", "rwkv6qwen2"})
"""The tests have no model of these that llama.cpp loads."""

KNOWN = (
    frozenset(
        {
            *WINDOWS,
            *NO_CACHE,
            *RECURRENT,
            *RECURRENT_WITHOUT_KV_HEADS,
            *RECURRENT_BY_INTERVAL,
            *LATENT,
            *("llama", "deci", "falcon", "grok", "gpt2", "gptneox", "mpt", "baichuan"),
            *("starcoder", "refact", "bloom", "stablelm", "qwen", "qwen2", "qwen2moe", "qwen2vl"),
            *("qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "phi2", "phi3", "phimoe", "plamo"),
            *("codeshell", "orion", "internlm2", "minicpm", "minicpm3", "gemma", "starcoder2"),
            *("falcon-h1", "xverse", "command-r", "dbrx", "olmo", "olmoe", "openelm", "arctic"),
            *("deepseek", "deepseek2-ocr", "chatglm", "glm4", "glm4moe", "bitnet", "jais", "jais2"),
            *("nemotron", "exaone", "granite", "granitemoe", "chameleon", "plm"),
            *("bailingmoe", "bailingmoe2", "dots1", "arcee", "ernie4_5", "ernie4_5-moe", "talkie"),
            *("hunyuan-moe", "hunyuan-dense", "hunyuan_vl", "hy_v3", "smollm3", "seed_oss"),
            *("grovemoe", "apertus", "hrm_text", "minimax-m2", "minimax-m3", "cogvlm", "maincoder"),
            *("pangu-embedded", "mistral3", "paddleocr", "llama-embed", "nanbeige"),
        }
    )
    - _UNVERIFIED
)
"""The architectures that the tests compare with llama.cpp itself: their estimates are exact."""
