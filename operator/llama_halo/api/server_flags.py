"""The flags and variables that `extraArgs` and `env` must not have, and the CEL rules for them."""

from __future__ import annotations

from llama_halo.api.schema import rule, rules

# Removed upstream: a build that no longer knows one of them exits at start.
REMOVED_FLAGS = ("--no-mmap", "--mmap", "--mlock", "-dio", "--direct-io", "--no-direct-io")
# Set from typed fields, or needed as they are: a second value would make the status wrong.
OWNED_FLAGS = {
    "-m": "source",
    "--model": "source",
    "-mu": "source",
    "--model-url": "source",
    "-hf": "source",
    "-hfr": "source",
    "--hf-repo": "source",
    "-hff": "source",
    "--hf-file": "source",
    "-hft": "source.huggingFace.tokenSecretRef",
    "--hf-token": "source.huggingFace.tokenSecretRef",
    "-mm": "projector",
    "--mmproj": "projector",
    "-mmu": "projector",
    "--mmproj-url": "projector",
    "-md": "draft.model",
    "--model-draft": "draft.model",
    "--spec-draft-model": "draft.model",
    "-hfd": "draft.model",
    "-hfrd": "draft.model",
    "--spec-draft-hf": "draft.model",
    "--hf-repo-draft": "draft.model",
    "--spec-draft-n-max": "draft.model.maxTokens",
    "--lora": "adapters",
    "--lora-scaled": "adapters",
    "-a": "aliases",
    "--alias": "aliases",
    "-c": "contextSize",
    "--ctx-size": "contextSize",
    "-np": "parallel",
    "--parallel": "parallel",
    "-kvu": "parallel",
    "--kv-unified": "parallel",
    "-no-kvu": "parallel",
    "--no-kv-unified": "parallel",
    "-ngl": "gpuLayers",
    "--gpu-layers": "gpuLayers",
    "--n-gpu-layers": "gpuLayers",
    "-dev": "backend",
    "--device": "backend",
    "-b": "batchSize",
    "--batch-size": "batchSize",
    "-ub": "microBatchSize",
    "--ubatch-size": "microBatchSize",
    "-ctk": "cacheType.k",
    "--cache-type-k": "cacheType.k",
    "-ctv": "cacheType.v",
    "--cache-type-v": "cacheType.v",
    "-cram": "promptCacheMiB",
    "--cache-ram": "promptCacheMiB",
    "-fa": "flashAttention",
    "--flash-attn": "flashAttention",
    "-t": "threads",
    "--threads": "threads",
    "--embedding": "mode",
    "--embeddings": "mode",
    "--rerank": "mode",
    "--reranking": "mode",
    "--host": "the Service",
    "--port": "the Service",
    "--api-key": "none: gateways send no key yet",
    "--api-key-file": "none: gateways send no key yet",
    "-fit": "memory",
    "--fit": "memory",
}
OWNED_ENV = (
    "LLAMA_ARG_DEVICE",
    "LLAMA_ARG_HOST",
    "LLAMA_ARG_PORT",
    "LLAMA_ARG_MODEL",
    "LLAMA_ARG_MMPROJ",
    "LLAMA_ARG_MMPROJ_URL",
    "LLAMA_ARG_SPEC_DRAFT_MODEL",
    "LLAMA_ARG_SPEC_DRAFT_HF_REPO",
    # With a key, llama-server would refuse every request of a gateway, which sends none yet.
    "LLAMA_API_KEY",
)


def _flag_rule(flags: tuple[str, ...], advice: str) -> dict[str, str]:
    alternatives = ", ".join(f"'{flag}'" for flag in flags)
    # llama-server accepts --ctx_size for --ctx-size.
    offends = f"a, a.split('=')[0].replace('_', '-') in [{alternatives}]"
    return rule(
        f"!self.exists({offends})",
        f"extraArgs holds a flag that {advice}",
        messageExpression=f"'extraArgs: ' + self.filter({offends})[0] + ' {advice}'",
    )


EXTRA_ARGS_RULES = rules(
    _flag_rule(
        REMOVED_FLAGS,
        "was removed from llama-server (the operator sets the load mode by environment): delete it",
    ),
    _flag_rule(
        tuple(OWNED_FLAGS),
        "is set by the operator from a field of spec: set that field and delete the flag",
    ),
)
_OWNED_ENV_LIST = ", ".join(f"'{name}'" for name in OWNED_ENV)
ENV_RULES = rules(
    rule(
        f"!self.exists(e, e.name in [{_OWNED_ENV_LIST}])",
        f"env: {', '.join(OWNED_ENV)} are set by the operator: delete the entry",
    )
)
