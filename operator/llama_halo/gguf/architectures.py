"""What tells llama.cpp's architectures apart for memory, as tables; `layers` applies them.

Read off `src/models/*.cpp`, `llama_model::create_memory` and `llama-hparams.cpp` of llama.cpp
b11434. An architecture that is in no table here has one plain cache for all of its layers; one that
is not even in `KNOWN` gets an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """How an architecture comes to sliding-window layers.

    The window is `attention.sliding_window`, which must be there unless there is a `default`. The
    pattern is the array `attention.sliding_window_pattern`, else a period: every `period`-th layer
    is not windowed, the last of each group or, with `full_first`, the first.
    """

    period: int = 0
    full_first: bool = False
    default: int = 0
    fixed: int = 0
    """llama.cpp overrides the key with this, unless the key says 0."""
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
"""exaone4 has windows only in its form of so many layers."""

ENCODERS = frozenset(
    {
        *("bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert"),
        *("eurobert", "modern-bert", "gemma-embedding"),
    }
)
NO_CACHE = ENCODERS | {"dream", "llada", "llada-moe", "rnd1"}
"""Encoders and diffusion models look at the whole text at once."""

LOGITS_COPIES = {"chameleon": 2}
DECAYS_BY_PAIRS = frozenset({"minimax-01", "kimi-linear"})
"""Each pair of tokens of a batch has a factor for each head."""

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
RECURRENT_WITHOUT_KV_HEADS = frozenset(
    {
        *("jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "bailingmoe3"),
        *("kimi-linear", "kimi-k3", "glm5-next", "nemotron_h", "nemotron_h_moe"),
    }
)
"""A layer is recurrent when it has no KV heads (and, of nemotron, no feed-forward either)."""
KEEPS_DRAFTING_LAYERS = RECURRENT_WITHOUT_KV_HEADS | {"falcon-h1", "minimax-m3", "hy_v4"}
"""The main context of these has caches for the layers that only draft, too."""
RECURRENT_BY_INTERVAL = {
    "qwen3next": 4,
    "qwen35": 4,
    "qwen35moe": 4,
    "qwen4exp": 4,
    "minimax-01": 8,
}
"""All but every n-th layer, unless the file lists them (`attention.recurrent_layers`)."""
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
"""Without the indexers of the other layers."""

LATENT = frozenset(
    {
        *("deepseek2", "deepseek32", "glm-dsa", "mistral4", "hy_v4", "bailingmoe3"),
        *("kimi-linear", "kimi-k3", "glm5-next"),
    }
)
"""MLA: files with the `_mla` lengths cache one latent vector and no values."""

NO_FLASH_ATTENTION = frozenset({"grok"})
"""llama.cpp turns it off for these, whatever was asked for."""

SHARED_FROM = {"gemma3n": 20}
"""Layers from there on use the caches of earlier ones; gemma4's file says from where."""

_UNVERIFIED = frozenset({"glm5-next", "plm", "rwkv6", "rwkv6qwen2"})
"""Of these the tests have no model that llama.cpp takes."""

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
"""What the tests hold against llama.cpp itself: estimates of these are exact."""
