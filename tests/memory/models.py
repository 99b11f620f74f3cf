"""The dimensions of real models, as their GGUF files state them; from the models' own configs."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

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


def model(
    architecture: str,
    blocks: int,
    embedding: int,
    heads: int | list[int],
    kv_heads: int | list[int] | None = None,
    *,
    experts: tuple[int, int, int] | None = None,
    **more: Any,
) -> Json:
    """Return the metadata of one model; `__` in a name stands for a dot."""
    own: Json = {
        "block_count": blocks,
        "context_length": 131072,
        "embedding_length": embedding,
        "feed_forward_length": 4 * embedding,
        "attention.head_count": heads,
        "vocab_size": 32000,
        "expert_feed_forward_length": 512,
        **_NEEDED,
    }
    if kv_heads is not None:
        own["attention.head_count_kv"] = kv_heads
    if experts:
        own["expert_count"], own["expert_used_count"], own["expert_feed_forward_length"] = experts
    own |= {name.replace("__", "."): value for name, value in more.items()}
    found = {f"{architecture}.{name}": value for name, value in own.items() if value is not None}
    return {"general.architecture": architecture, "tokenizer.ggml.model": "none", **found}


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
_INDEXER: Json = {
    "attention__indexer__head_count": 64,
    "attention__indexer__key_length": 128,
    "attention__indexer__top_k": 2048,
}

MODELS: dict[str, Json] = {
    "llama-3.2-3b": model("llama", 28, 3072, 24, 8),
    "hermes-4-14b": model("qwen3", 40, 5120, 40, 8),
    "hermes-4-70b": model("llama", 80, 8192, 64, 8),
    "qwen2.5-coder-7b": model("qwen2", 28, 3584, 28, 4),
    "qwen2.5-coder-32b": model("qwen2", 64, 5120, 40, 8),
    "deepseek-coder-v2-lite": model("deepseek2", 27, 2048, 16, 1, experts=(64, 6, 1408), **mla()),
    "deepseek-coder-v2-lite-old": model(
        *("deepseek2", 27, 2048, 16, 16),
        experts=(64, 6, 1408),
        **attention(192, 128),
        rope__dimension_count=64,
    ),
    "qwen3-coder-30b-a3b": model(
        *("qwen3moe", 48, 2048, 32, 4),
        experts=(128, 8, 768),
        **attention(128),
    ),
    "qwen3-next-80b": model(
        *("qwen3next", 48, 2048, 16, 2),
        experts=(512, 10, 512),
        **_QWEN3_NEXT,
    ),
    "qwen3.6-35b-a3b": model(
        *("qwen35moe", 41, 2048, 16, 2),
        experts=(256, 8, 512),
        **_QWEN3_NEXT,
        nextn_predict_layers=1,
    ),
    "gpt-oss-20b": model(
        *("gpt-oss", 24, 2880, 64, 8),
        experts=(32, 4, 2880),
        **_GPT_OSS,
    ),
    "gpt-oss-120b": model(
        *("gpt-oss", 36, 2880, 64, 8),
        experts=(128, 4, 2880),
        **_GPT_OSS,
    ),
    "glm-4.5-air": model(
        *("glm4moe", 47, 4096, 96, 8),
        experts=(128, 8, 1408),
        **attention(128),
        nextn_predict_layers=1,
    ),
    "gemma-3-27b": model(
        *("gemma3", 62, 5376, 32, 16),
        **attention(128),
        attention__sliding_window=1024,
    ),
    "minimax-m2": model(
        *("minimax-m2", 62, 3072, 48, 8),
        experts=(256, 8, 1536),
        **attention(128),
    ),
    "gemma-4-26b-a4b": model(
        *("gemma4", 30, 2816, 16),
        experts=(128, 8, 704),
        kv_heads=[2 if (index + 1) % 6 == 0 else 8 for index in range(30)],
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
        *("gemma3n", 35, 2048, 8, 2),
        **attention(256),
        attention__sliding_window=512,
    ),
    "llama-4-scout": model(
        *("llama4", 48, 5120, 40, 8),
        experts=(16, 1, 8192),
        **attention(128),
    ),
    "nemotron-3-nano-30b": model(
        *("nemotron_h_moe", 52, 2688, 32),
        experts=(128, 6, 1856),
        kv_heads=[2 if index % 9 == 5 else 0 for index in range(52)],
        feed_forward_length=[1856 if index % 2 else 0 for index in range(52)],
        **attention(128),
        **delta(4096, 128, 8, 64),
    ),
    "granite-4-h-small": model(
        *("granitehybrid", 40, 4096, 32),
        experts=(72, 10, 768),
        kv_heads=every(40, 10, 8),
        **delta(8192, 128, 1, 128),
    ),
    "falcon-h1-34b": model(
        *("falcon-h1", 72, 5120, 20, 4),
        **attention(128),
        **delta(5120, 256, 2, 32),
    ),
    "jamba-mini": model(
        *("jamba", 32, 4096, 32),
        experts=(16, 2, 14336),
        kv_heads=every(32, 8, 8),
        **delta(8192, 16, 0, 256),
    ),
    "lfm2-8b-a1b": model(
        *("lfm2moe", 24, 2048, 32),
        experts=(32, 4, 1792),
        kv_heads=every(24, 4, 8),
        shortconv__l_cache=3,
    ),
    "kimi-linear-48b": model(
        *("kimi-linear", 27, 2304, 32),
        experts=(256, 8, 1024),
        kv_heads=every(27, 4, 1),
        **mla(),
        ssm__conv_kernel=4,
        kda__head_dim=128,
    ),
    "deepseek-v3.2": model(
        *("deepseek32", 62, 7168, 128, 1),
        experts=(256, 8, 2048),
        **mla(),
        **_INDEXER,
        nextn_predict_layers=1,
    ),
    "glm-5": model(
        *("glm-dsa", 79, 6144, 64, 1),
        experts=(256, 8, 2048),
        **mla(256, 256),
        **_INDEXER,
        nextn_predict_layers=1,
    ),
    "minimax-m3": model(
        *("minimax-m3", 60, 6144, 64, 4),
        experts=(128, 4, 3072),
        **attention(128),
        **_INDEXER,
        attention__indexer__block_size=128,
        attention__indexer__local_blocks=1,
        leading_dense_block_count=3,
    ),
    "step-3.5-flash": model(
        *("step35", 45, 4096, [64 if index % 4 == 0 else 96 for index in range(45)], 8),
        experts=(288, 8, 1280),
        **attention(128),
        attention__sliding_window=512,
        attention__sliding_window_pattern=[index % 4 != 0 for index in range(45)],
    ),
    "mimo-v2-flash": model(
        *("mimo2", 48, 4096, 64),
        experts=(256, 8, 2048),
        kv_heads=[4 if index % 6 == 5 else 8 for index in range(48)],
        **attention(192, 128),
        attention__sliding_window=128,
        attention__sliding_window_pattern=[index % 6 != 5 for index in range(48)],
    ),
    "mistral-small-3.2": model("mistral3", 40, 5120, 32, 8, **attention(128)),
    "olmo-3-32b": model(
        *("olmo2", 64, 5120, 40, 8),
        attention__sliding_window=4096,
        attention__sliding_window_pattern=[index % 4 != 3 for index in range(64)],
    ),
    "smallthinker-21b": model(
        *("smallthinker", 52, 2560, 28, 4),
        experts=(64, 6, 768),
        **attention(128),
        attention__sliding_window=4096,
    ),
    "exaone-4-32b": model(
        *("exaone4", 64, 5120, 40, 8),
        attention__sliding_window=4096,
    ),
    "exaone-4-1.2b": model(
        *("exaone4", 30, 2048, 32, 8),
        attention__sliding_window=4096,
    ),
    "command-a": model(
        *("cohere2", 64, 12288, 96, 8),
        **attention(128),
        attention__sliding_window=4096,
    ),
    "phi-4-mini": model(
        *("phi3", 32, 3072, 24, 8),
        attention__sliding_window=262144,
        rope__scaling__original_context_length=4096,
    ),
    "mamba2-2.7b": model("mamba2", 64, 2560, 0, **delta(5120, 128, 1, 80)),
    "rwkv7-2.9b": model("rwkv7", 32, 2560, 0, wkv__head_size=64),
    "embeddinggemma-300m": model(
        *("gemma-embedding", 24, 768, 3, 1),
        **attention(256),
        attention__sliding_window=512,
    ),
    "nomic-embed-text": model("nomic-bert", 12, 768, 12),
}
