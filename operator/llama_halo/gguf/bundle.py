"""Everything that one llama-server loads: a model, its projector, its draft and its adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llama_halo.errors import UnsupportedModel
from llama_halo.gguf.companions import Companion
from llama_halo.gguf.memory import Estimate, Method, Serving, drafting_bytes, estimate
from llama_halo.gguf.profile import Profile

MTP, SIMPLE = "draft-mtp", "draft-simple"
DRAFTED_TOKENS = 3
"""llama-server's default for the tokens drafted at once."""


def draft_type(draft: Profile, model: Profile | None) -> str:
    """Return the `--spec-type` for a draft's file.

    llama-server's own detection reads only the first shard, and aborts when the layers for
    multi-token prediction have another width.
    """
    if draft.drafts in ("eagle3", "dflash", "dspark"):
        return f"draft-{draft.drafts}"
    fits = model is not None and draft.model.embedding == model.model.embedding
    return MTP if draft.drafts == "mtp" or (draft.model.drafting and fits) else SIMPLE


@dataclass(frozen=True)
class Bundle:
    """A model with its projector, its draft model and its adapters."""

    model: Profile
    projector: Companion | None = None
    draft: Profile | None = None
    adapters: Mapping[str, Companion] = field(default_factory=dict)
    """By the adapter's name."""
    uses_mtp: bool = False
    """Whether the model drafts with its own layers for multi-token prediction."""

    @property
    def draft_type(self) -> str:
        """llama-server's `--spec-type`; empty without a draft."""
        if self.uses_mtp:
            return MTP
        return draft_type(self.draft, self.model) if self.draft else ""

    def estimate(self, serving: Serving) -> Estimate:
        """Return the memory of the whole bundle with these settings.

        Raises `UnsupportedModel` for a bundle with which llama.cpp would not start.
        """
        self._check()
        # With any draft but an ordinary model, the model keeps a state for each drafted token.
        rolls = self.draft_type not in ("", SIMPLE)
        drafted = (serving.drafted_tokens or DRAFTED_TOKENS) if rolls else 0
        own = estimate(
            self.model.weights, self.model.model, replace(serving, drafted_tokens=drafted)
        )
        draft, method = 0, own.method
        if self.uses_mtp:
            draft = drafting_bytes(self.model.model, serving)
        elif self.draft and self.draft_type == MTP:
            draft = self.draft.weights + drafting_bytes(self.draft.model, serving)
        elif self.draft:
            alone = replace(serving, drafted_tokens=0)
            draft_estimate = estimate(self.draft.weights, self.draft.model, alone)
            draft = draft_estimate.gpu
            method = Method.UPPER_BOUND if draft_estimate.method is Method.UPPER_BOUND else method
        projector_bytes = self.projector and self.projector.bound_bytes(
            flash_attention=serving.flash_attention, image_tokens=serving.image_tokens
        )
        return replace(
            own,
            projector=projector_bytes or 0,
            draft=draft,
            adapters=sum(adapter.weights for adapter in self.adapters.values()),
            method=method,
        )

    def _check(self) -> None:
        own = self.model.model.architecture
        if self.uses_mtp and not self.model.model.drafting:
            raise UnsupportedModel(
                f"draft.mtp: this {own} file has no layers for multi-token prediction that"
                " llama.cpp uses: delete spec.draft, take a file that has them, or use draft.model"
            )
        for name, adapter in self.adapters.items():
            if adapter.architecture != own:
                raise UnsupportedModel(
                    f"adapters: {name} is for models of the architecture {adapter.architecture},"
                    f" and the model is {own}: delete it, or take the model it was made for"
                )
