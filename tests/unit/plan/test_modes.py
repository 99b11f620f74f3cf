"""Fields that a mode's server does not have."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.reasons import Reason
from llama_halo.plan.modes import mode_refusal, pooling_refusal
from tests.support.whisper_headers import SPEC

REFUSED = {
    "a context": (
        {"contextSize": 4096},
        "spec.contextSize: mode Transcription",
    ),
    "slots": ({"parallel": 2}, "spec.parallel: mode Transcription runs whisper-server"),
    "a prompt cache": (
        {"promptCacheMiB": 1},
        "spec.promptCacheMiB: mode Transcription",
    ),
    "thoughts": (
        {"reasoning": {"format": "Auto"}},
        "spec.reasoning: mode Transcription",
    ),
    "a template for vectors": (
        {"mode": "Embedding", "chatTemplate": {"configMapKeyRef": {"name": "t", "key": "k"}}},
        "spec.chatTemplate: mode Embedding generates no text: delete it",
    ),
    "drafts for vectors": (
        {"mode": "Embedding", "draft": {"mtp": {}}},
        "spec.draft: mode Embedding generates no text: delete it",
    ),
    "thoughts of a judge": (
        {"mode": "Rerank", "reasoning": {"format": "Auto"}},
        "spec.reasoning: mode Rerank generates no text and no vector: delete it",
    ),
    "vectors of one that chats": (
        {"mode": "Chat", "pooling": "Last"},
        "spec.pooling: mode Chat generates no vectors: delete it",
    ),
    "a backend without an image": ({"backend": "ROCm"}, "no whisper-server image for ROCm"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_its_server_does_not_have_is_refused_by_name(case: str) -> None:
    more, arguments = REFUSED[case]
    refusal = mode_refusal(LlamaModelSpec.model_validate({**SPEC, **more}))
    assert refusal is not None
    assert arguments in refusal.message


@pytest.mark.parametrize(
    ("more", "pooling", "says"),
    [
        ({"mode": "Embedding"}, "mean", ""),
        ({"mode": "Embedding"}, "absent", "set spec.pooling"),
        ({"mode": "Embedding"}, "none", "set spec.pooling"),
        ({"mode": "Embedding", "pooling": "Last"}, "absent", ""),
        ({"mode": "Embedding", "extraArgs": ["--pooling", "last"]}, "absent", ""),
        (
            {"mode": "Embedding", "env": [{"name": "LLAMA_ARG_POOLING", "value": "last"}]},
            "absent",
            "",
        ),
        ({"mode": "Embedding"}, "rank", "use mode Rerank"),
        ({"mode": "Embedding"}, "", ""),
        ({"mode": "Rerank"}, "rank", ""),
        ({"mode": "Rerank"}, "mean", "no classifier that ranks"),
        ({"mode": "Rerank"}, "", ""),
        ({}, "absent", ""),
    ],
)
def test_a_file_that_cannot_do_what_the_mode_asks_is_refused(
    more: dict[str, Any], pooling: str, says: str
) -> None:
    spec = LlamaModelSpec.model_validate({"source": SPEC["source"], **more})
    refusal = pooling_refusal(spec, pooling)
    assert (refusal is None) is not bool(says)
    if refusal is not None:
        assert refusal.reason is Reason.UNSUPPORTED_MODEL
        assert says in refusal.message


def test_what_it_has_is_taken() -> None:
    more = {"backend": "ROCm", "image": "i", "command": ["whisper-server"], "threads": 4}
    assert mode_refusal(LlamaModelSpec.model_validate({**SPEC, **more})) is None
    assert mode_refusal(LlamaModelSpec.model_validate({"source": SPEC["source"]})) is None
