"""The dimensions of real models, as their GGUF files state them; from the models' own configs."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_SIZES = ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv")
# What llama.cpp insists on and no memory depends on.
_NEEDED = {
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.layer_norm_epsilon": 1e-6,
    "attention.group_norm_epsilon": 1e-6,
    "attention.group_norm_groups": 8,
    "logit_scale": 1.0,
    "residual_scale": 1.0,
    "embedding_scale": 1.0,
    "attention.scale": 1.0,
    "expert_weights_scale": 1.0,
    "expert_gating_func": 2,
    "expert_shared_count": 1,
    "expert_shared_feed_forward_length": 512,
    "leading_dense_block_count": 1,
    "rescale_every_n_layers": 0,
    "time_mix_extra_dim": 32,
    "time_decay_extra_dim": 64,
    "attention.decay_lora_rank": 64,
    "attention.iclr_lora_rank": 64,
    "attention.value_residual_mix_lora_rank": 32,
    "attention.gate_lora_rank": 128,
    "rope.dimension_sections": [11, 11, 10, 0],
    "attention.relative_buckets_count": 32,
    "interleave_moe_layer_step": 1,
    "attention.q_lora_rank": 1536,
    "attention.kv_lora_rank": 512,
    "attention.max_alibi_bias": 8.0,
    "attention.clamp_kqv": 8.0,
    "attention.value_scale": 1.0,
    "expert_chunk_feed_forward_length": 128,
    "kda.gate_lower_bound": -5.0,
    "experts_per_group": 2,
    "expert_group_scale": 0.05,
}


Heads = int | list[int]


def model(
    architecture: str,
    size: tuple[int, int, Heads] | tuple[int, int, Heads, Heads],
    *,
    vocabulary: int = 32000,
    feed_forward: Heads = 2048,
    experts: tuple[int, int, int] | None = None,
    **more: Any,
) -> Json:
    """Return the metadata of one model; `__` in a name stands for a dot.

    `size` is blocks, embedding length, heads and KV heads; `experts` how many there are, how many
    a token uses, and their feed-forward length.
    """
    own: Json = {
        "context_length": 131072,
        "vocab_size": vocabulary,
        "feed_forward_length": feed_forward,
        "expert_feed_forward_length": 512,
        **dict(zip(_SIZES, size, strict=False)),
        **_NEEDED,
    }
    if experts:
        own["expert_count"], own["expert_used_count"], own["expert_feed_forward_length"] = experts
    own |= {name.replace("__", "."): value for name, value in more.items()}
    value = {f"{architecture}.{name}": value for name, value in own.items() if value is not None}
    tokenizer = {"tokenizer.ggml.model": "none", "tokenizer.ggml.token_type_count": 2}
    return {"general.architecture": architecture, **tokenizer, **value}


def attention(key: int, value: int | None = None) -> Json:
    """Return the keys of a head's length."""
    return {
        "attention__key_length": key,
        "attention__value_length": key if value is None else value,
    }


def mla(key: int = 192, value: int = 128, latent: int = 512, rope: int = 64) -> Json:
    """Return the keys of latent attention, as current conversions write them."""
    lengths = {"attention__key_length_mla": key, "attention__value_length_mla": value}
    return {**attention(latent + rope, latent), **lengths, "rope__dimension_count": rope}


def delta(inner: int = 4096, state: int = 128, groups: int = 16, rank: int = 32) -> Json:
    """Return the keys of a state-space or linear-attention layer."""
    sizes = {"ssm__inner_size": inner, "ssm__state_size": state, "ssm__group_count": groups}
    return {**sizes, "ssm__conv_kernel": 4, "ssm__time_step_rank": rank}


def every(blocks: int, period: int, heads: int) -> list[int]:
    """Return heads for every n-th layer, none for the others."""
    return [heads if (index + 1) % period == 0 else 0 for index in range(blocks)]


_GPT_OSS: Json = {"attention__sliding_window": 128, **attention(64)}
_QWEN3_NEXT: Json = {**attention(256), **delta(), "rope__dimension_count": 64}


def _indexer(heads: int) -> Json:
    sizes = {"attention__indexer__head_count": heads, "attention__indexer__key_length": 128}
    return {**sizes, "attention__indexer__top_k": 2048}


MODELS: dict[str, Json] = {
    "llama-3.2-3b": model("llama", (28, 3072, 24, 8), vocabulary=128256, feed_forward=8192),
    "hermes-4-14b": model("qwen3", (40, 5120, 40, 8), vocabulary=151936, feed_forward=17408),
    "hermes-4-70b": model("llama", (80, 8192, 64, 8), vocabulary=128256, feed_forward=28672),
    "qwen2.5-coder-7b": model("qwen2", (28, 3584, 28, 4), vocabulary=152064, feed_forward=18944),
    "qwen2.5-coder-32b": model("qwen2", (64, 5120, 40, 8), vocabulary=152064, feed_forward=27648),
    "deepseek-coder-v2-lite": model(
        "deepseek2",
        (27, 2048, 16, 1),
        vocabulary=102400,
        feed_forward=10944,
        experts=(64, 6, 1408),
        **mla(),
    ),
    "deepseek-coder-v2-lite-old": model(
        "deepseek2",
        (27, 2048, 16, 16),
        vocabulary=102400,
        feed_forward=10944,
        experts=(64, 6, 1408),
        **attention(192, 128),
        rope__dimension_count=64,
    ),
    "qwen3-coder-30b-a3b": model(
        "qwen3moe",
        (48, 2048, 32, 4),
        vocabulary=151936,
        feed_forward=6144,
        experts=(128, 8, 768),
        **attention(128),
    ),
    "qwen3-next-80b": model(
        "qwen3next",
        (48, 2048, 16, 2),
        vocabulary=151936,
        feed_forward=5120,
        experts=(512, 10, 512),
        **_QWEN3_NEXT,
    ),
    "qwen3.6-35b-a3b": model(
        "qwen35moe",
        (41, 2048, 16, 2),
        vocabulary=248320,
        experts=(256, 8, 512),
        **_QWEN3_NEXT,
        nextn_predict_layers=1,
    ),
    "gpt-oss-20b": model(
        "gpt-oss",
        (24, 2880, 64, 8),
        vocabulary=201088,
        feed_forward=2880,
        experts=(32, 4, 2880),
        **_GPT_OSS,
    ),
    "gpt-oss-120b": model(
        "gpt-oss",
        (36, 2880, 64, 8),
        vocabulary=201088,
        feed_forward=2880,
        experts=(128, 4, 2880),
        **_GPT_OSS,
    ),
    "glm-4.5-air": model(
        "glm4moe",
        (47, 4096, 96, 8),
        vocabulary=151552,
        feed_forward=10944,
        experts=(128, 8, 1408),
        **attention(128),
        nextn_predict_layers=1,
    ),
    "gemma-3-27b": model(
        "gemma3",
        (62, 5376, 32, 16),
        vocabulary=262208,
        feed_forward=21504,
        **attention(128),
        attention__sliding_window=1024,
    ),
    "minimax-m2": model(
        "minimax-m2",
        (62, 3072, 48, 8),
        vocabulary=200064,
        feed_forward=1536,
        experts=(256, 8, 1536),
        **attention(128),
    ),
    "gemma-4-26b-a4b": model(
        "gemma4",
        (30, 2816, 16, [2 if (index + 1) % 6 == 0 else 8 for index in range(30)]),
        vocabulary=262144,
        feed_forward=2112,
        experts=(128, 8, 704),
        **attention(512),
        attention__key_length_swa=256,
        attention__value_length_swa=256,
        attention__sliding_window=1024,
        attention__sliding_window_pattern=[(index + 1) % 6 != 0 for index in range(30)],
        embedding_length_per_layer_input=256,
        rope__dimension_count=512,
        rope__dimension_count_swa=256,
        final_logit_softcapping=30.0,
    ),
    "gemma-3n-e4b": model(
        "gemma3n",
        (35, 2048, 8, 2),
        vocabulary=262400,
        feed_forward=16384,
        **attention(256),
        attention__sliding_window=512,
    ),
    "llama-4-scout": model(
        "llama4",
        (48, 5120, 40, 8),
        vocabulary=202048,
        feed_forward=16384,
        experts=(16, 1, 8192),
        **attention(128),
    ),
    "nemotron-3-nano-30b": model(
        "nemotron_h_moe",
        (52, 2688, 32, [2 if index % 9 == 5 else 0 for index in range(52)]),
        vocabulary=131072,
        feed_forward=[1856 if index % 2 else 0 for index in range(52)],
        experts=(128, 6, 1856),
        **attention(128),
        **delta(4096, 128, 8, 64),
    ),
    "granite-4-h-small": model(
        "granitehybrid",
        (40, 4096, 32, every(40, 10, 8)),
        vocabulary=100352,
        feed_forward=768,
        experts=(72, 10, 768),
        **delta(8192, 128, 1, 128),
    ),
    "falcon-h1-34b": model(
        "falcon-h1",
        (72, 5120, 20, 4),
        vocabulary=261120,
        feed_forward=21504,
        **attention(128),
        **delta(5120, 256, 2, 32),
    ),
    "jamba-mini": model(
        "jamba",
        (32, 4096, 32, every(32, 8, 8)),
        vocabulary=65536,
        feed_forward=14336,
        experts=(16, 2, 14336),
        **delta(8192, 16, 0, 256),
    ),
    "lfm2-8b-a1b": model(
        "lfm2moe",
        (24, 2048, 32, every(24, 4, 8)),
        vocabulary=65536,
        feed_forward=7168,
        experts=(32, 4, 1792),
        shortconv__l_cache=3,
    ),
    "kimi-linear-48b": model(
        "kimi-linear",
        (27, 2304, 32, every(27, 4, 1)),
        vocabulary=163840,
        feed_forward=9216,
        experts=(256, 8, 1024),
        **mla(),
        ssm__conv_kernel=4,
        kda__head_dim=128,
    ),
    "deepseek-v3.2": model(
        "deepseek32",
        (62, 7168, 128, 1),
        vocabulary=129280,
        feed_forward=18432,
        experts=(256, 8, 2048),
        **mla(),
        **_indexer(64),
        nextn_predict_layers=1,
    ),
    "glm-5": model(
        "glm-dsa",
        (79, 6144, 64, 1),
        vocabulary=154880,
        feed_forward=12288,
        experts=(256, 8, 2048),
        **mla(256, 256),
        **_indexer(64),
        nextn_predict_layers=1,
    ),
    "minimax-m3": model(
        "minimax-m3",
        (60, 6144, 64, 4),
        vocabulary=200064,
        feed_forward=12288,
        experts=(128, 4, 3072),
        **attention(128),
        **_indexer(4),
        attention__indexer__block_size=128,
        attention__indexer__local_blocks=1,
        leading_dense_block_count=3,
    ),
    "step-3.5-flash": model(
        "step35",
        (45, 4096, [64 if index % 4 == 0 else 96 for index in range(45)], 8),
        vocabulary=128896,
        feed_forward=11264,
        experts=(288, 8, 1280),
        **attention(128),
        attention__sliding_window=512,
        attention__sliding_window_pattern=[index % 4 != 0 for index in range(45)],
    ),
    "mimo-v2-flash": model(
        "mimo2",
        (48, 4096, 64, [4 if index % 6 == 5 else 8 for index in range(48)]),
        vocabulary=152576,
        feed_forward=16384,
        experts=(256, 8, 2048),
        **attention(192, 128),
        attention__sliding_window=128,
        attention__sliding_window_pattern=[index % 6 != 5 for index in range(48)],
    ),
    "mistral-small-3.2": model(
        "mistral3", (40, 5120, 32, 8), vocabulary=131072, feed_forward=32768, **attention(128)
    ),
    "olmo-3-32b": model(
        "olmo2",
        (64, 5120, 40, 8),
        vocabulary=100278,
        feed_forward=27648,
        attention__sliding_window=4096,
        attention__sliding_window_pattern=[index % 4 != 3 for index in range(64)],
    ),
    "smallthinker-21b": model(
        "smallthinker",
        (52, 2560, 28, 4),
        vocabulary=151936,
        feed_forward=768,
        experts=(64, 6, 768),
        **attention(128),
        attention__sliding_window=4096,
    ),
    "exaone-4-32b": model(
        "exaone4",
        (64, 5120, 40, 8),
        vocabulary=102400,
        feed_forward=27392,
        attention__sliding_window=4096,
    ),
    "exaone-4-1.2b": model(
        "exaone4",
        (30, 2048, 32, 8),
        vocabulary=102400,
        feed_forward=4096,
        attention__sliding_window=4096,
    ),
    "command-a": model(
        "cohere2",
        (64, 12288, 96, 8),
        vocabulary=256000,
        feed_forward=33792,
        **attention(128),
        attention__sliding_window=4096,
    ),
    "phi-4-mini": model(
        "phi3",
        (32, 3072, 24, 8),
        vocabulary=200064,
        feed_forward=8192,
        attention__sliding_window=262144,
        rope__scaling__original_context_length=4096,
    ),
    "mamba2-2.7b": model(
        "mamba2", (64, 2560, 0), vocabulary=50288, feed_forward=0, **delta(5120, 128, 1, 80)
    ),
    "rwkv7-2.9b": model(
        "rwkv7", (32, 2560, 0), vocabulary=65536, feed_forward=10240, wkv__head_size=64
    ),
    "embeddinggemma-300m": model(
        "gemma-embedding",
        (24, 768, 3, 1),
        vocabulary=262144,
        feed_forward=1152,
        **attention(256),
        attention__sliding_window=512,
    ),
    "nomic-embed-text": model("nomic-bert", (12, 768, 12), vocabulary=30522, feed_forward=3072),
}

_MOE = frozenset(
    {
        *("afmoe", "arctic", "bailingmoe", "bailingmoe2", "bailingmoe3", "cohere2moe", "dbrx"),
        *("deepseek", "deepseek2", "deepseek2-ocr", "deepseek32", "dots1", "ernie4_5-moe"),
        *("exaone-moe", "glm-dsa", "glm4moe", "gpt-oss", "grok", "grovemoe", "hy_v3"),
        *("hy_v4", "hunyuan-moe", "kimi-k3", "kimi-linear", "laguna", "lfm2moe", "llada-moe"),
        *("llama4", "maple", "mellum", "mimo2", "minimax-01", "minimax-m2", "minimax-m3"),
        *("mistral4", "nomic-bert-moe", "olmoe", "phimoe", "qwen2moe", "qwen35moe", "qwen3moe"),
        *("qwen3next", "qwen3vlmoe", "qwen4exp", "rnd1", "smallthinker", "step35", "granitemoe"),
        *("nemotron_h_moe", "jamba"),
    }
)
_SMALL_INDEXER: Json = {**_indexer(4), "attention__indexer__top_k": 64}
_HYPER: Json = {"hyper_connection__count": 4, "hyper_connection__epsilon": 1e-6}
_PATTERN: Json = {"attention__sliding_window_pattern": [True, False] * 4}
_SMALL_DELTA: Json = {**attention(128), **delta(2048, 128, 8, 16), "rope__dimension_count": 64}
# What a small model of an architecture needs beside the usual, so that llama.cpp takes it.
_OWN: dict[str, Json] = {
    "apertus": {},
    "arwkv7": {"token_shift_count": 1},
    "bailingmoe3": {"kv_heads": [0, 1] * 4, **mla(), "kda__head_dim": 128},
    "deepseek2": {"kv_heads": 1, **mla()},
    "deepseek2-ocr": {"kv_heads": 8},
    "deepseek32": {"kv_heads": 1, **mla(), **_SMALL_INDEXER},
    "dots1": {"kv_heads": 8},
    "gemma4": {
        **_PATTERN,
        "embedding_length_per_layer_input": 256,
        "attention__key_length_swa": 64,
        "attention__value_length_swa": 64,
    },
    "glm-dsa": {"kv_heads": 1, **mla(), **_SMALL_INDEXER},
    "gptneox": {"use_parallel_residual": True},
    "granite_swa": _PATTERN,
    "granitehybrid": delta(2048, 128, 1, 16),
    "hrm_text": {"hrm__layers_per_stack": 2, "hrm__h_cycles": 2, "hrm__l_cycles": 1},
    "hy_v4": {
        "kv_heads": 1,
        **mla(),
        **_SMALL_INDEXER,
        **_HYPER,
        "hyper_connection__magnitude": 1.0,
        "attention__indexer__types": [True] * 8,
    },
    "jamba": delta(2048, 16, 0, 64),
    "jina-bert-v2": {"kv_heads": 8},
    "kimi-k3": {
        "kv_heads": [0, 1] * 4,
        **mla(),
        "kda__head_dim": 128,
        "attn_res__block_size": 2,
        "activation__situ_beta": 1.0,
        "activation__situ_linear_beta": 0.0,
    },
    "kimi-linear": {"kv_heads": [0, 1] * 4, **mla(), "kda__head_dim": 128},
    "lfm2": {"shortconv__l_cache": 3},
    "lfm2moe": {"shortconv__l_cache": 3},
    "mamba": {"heads": 0, **delta(2048, 16, 0, 64)},
    "mamba2": {"heads": 0, **delta(2048, 128, 1, 32)},
    "maple": {**_PATTERN, "swiglu_clamp_exp": [1.0] * 8},
    "mimo2": _PATTERN,
    "minicpm3": {"kv_heads": 8, **attention(96, 64), "rope__dimension_count": 32},
    "minimax-m3": {
        **_SMALL_INDEXER,
        "attention__indexer__block_size": 64,
        "attention__indexer__local_blocks": 1,
    },
    "mistral4": {"kv_heads": 1, **mla()},
    "nemotron_h": {"feed_forward": [0, 0, 2048, 0] * 2, "kv_heads": [0, 4, 0, 4] * 2},
    "nemotron_h_moe": {"feed_forward": [0, 0, 2048, 0] * 2, "kv_heads": [0, 4, 0, 4] * 2},
    "olmoe": {"kv_heads": 8},
    "plamo2": delta(2048, 64, 0, 16),
    "qwen35": _SMALL_DELTA,
    "qwen35moe": _SMALL_DELTA,
    "qwen3next": _SMALL_DELTA,
    "qwen4exp": {**_SMALL_DELTA, **_SMALL_INDEXER, **_HYPER, "hyper_connection__low_rank": 8},
    "spark2_5": _PATTERN,
    "step35": _PATTERN,
}


def small(architecture: str, **changes: Any) -> Json:
    """Return the metadata of a small model of any architecture, as llama.cpp takes it."""
    usual: Json = {"heads": 8, "kv_heads": 4, "blocks": 8, **attention(128)}
    usual |= {**delta(512, 128, 1, 16), "attention__sliding_window": 512}
    if "rwkv" in architecture or "arwkv" in architecture:
        usual["wkv__head_size"] = 64
    if architecture in ("plamo2", "lfm2", "lfm2moe", "jamba", "granitehybrid"):
        usual["kv_heads"] = [0, 4] * 4
    own = {**usual, **_OWN.get(architecture, {}), **changes}
    size = (own.pop("blocks"), 1024, own.pop("heads"), own.pop("kv_heads"))
    experts = (8, 2, 256) if architecture in _MOE else None
    row = model(architecture, size, experts=experts, **own)
    alphas = [f"xielu.{name}" for name in ("alpha_n", "alpha_p", "beta", "eps")]
    return {**row, **{name: [1.0] * 8 for name in alphas if architecture == "apertus"}}
