"""What goes with a model: which kind of draft, and what hostile or unusual headers become."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_halo.errors import DamagedGGUF, UnsupportedModel
from llama_halo.gguf.bundle import Bundle
from llama_halo.gguf.companions import PROJECTOR, companion
from llama_halo.gguf.header import Header, read_header
from llama_halo.gguf.memory import Serving, drafting_bytes
from llama_halo.gguf.profile import Profile, from_json, profile, to_json
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS, small
from tests.support.gguf_projectors import pixtral, qwen2_5vl

Json = dict[str, Any]


def header(metadata: Json, *tensors: str) -> Header:
    named = tensors or ("token_embd.weight",)
    listed = [(name, [32], 0, 128 * index) for index, name in enumerate(named)]
    data = header_bytes(metadata, listed)
    return read_header(lambda offset, count: data[offset : offset + count])


def read_profile(metadata: Json, *tensors: str) -> Profile:
    return profile(header(metadata, *tensors), "x.gguf")


LARGE = read_profile(MODELS["qwen3.6-35b-a3b"], "blk.0.attn_norm.weight")
WHOLE = "blk.0.attn_norm.weight"


@pytest.mark.parametrize(
    ("draft", "kind"),
    [
        (read_profile(small("qwen3"), WHOLE), "draft-simple"),
        (read_profile(small("qwen35", nextn_predict_layers=1), WHOLE), "draft-simple"),
        (read_profile(MODELS["qwen3.6-35b-a3b"], WHOLE), "draft-mtp"),
        (read_profile(MODELS["qwen3.6-35b-a3b"], "blk.40.nextn.eh_proj.weight"), "draft-mtp"),
        (read_profile(small("eagle3")), "draft-eagle3"),
        (read_profile(small("dflash")), "draft-dflash"),
        (read_profile(small("dflash"), "markov_w1.weight"), "draft-dspark"),
        (read_profile(small("gemma4-assistant", nextn_predict_layers=8), WHOLE), "draft-mtp"),
    ],
)
def test_the_flag_for_a_draft_follows_from_its_header(draft: Profile, kind: str) -> None:
    assert Bundle(LARGE, draft=draft).draft_type == kind
    assert from_json(to_json(draft)) == draft


def test_of_a_draft_that_predicts_several_tokens_only_those_layers_keep_a_cache() -> None:
    serving = Serving(131072)
    draft = read_profile(MODELS["qwen3.6-35b-a3b"], "blk.40.nextn.eh_proj.weight")
    estimate = Bundle(LARGE, draft=draft).estimate(serving)
    assert estimate.draft == draft.weights + drafting_bytes(draft.model, serving)
    ordinary = Bundle(LARGE, draft=replace(draft, drafts="eagle3")).estimate(serving)
    assert estimate.draft < ordinary.draft / 2


def test_a_model_without_such_layers_does_not_draft_with_itself() -> None:
    with pytest.raises(UnsupportedModel, match="no layers for multi-token prediction"):
        Bundle(read_profile(small("llama")), uses_mtp=True).estimate(Serving(4096))


def test_a_profile_of_an_earlier_release_is_good_for_all_but_what_that_did_not_look_for() -> None:
    document = to_json(LARGE)
    del document["drafting"]
    parsed = from_json(document)
    assert parsed == replace(LARGE, model=replace(LARGE.model, drafting=()))


def test_an_image_takes_as_much_as_the_flag_allows() -> None:
    described = companion(header(pixtral()[0]), PROJECTOR)
    whole = described.bound_bytes(flash_attention=True)
    assert described.bound_bytes(flash_attention=True, image_tokens=256) < whole / 4
    assert described.bound_bytes(flash_attention=True, image_tokens=10**12) < 2**50


@pytest.mark.parametrize(
    "change",
    [
        {"clip.vision.patch_size": 1, "clip.vision.image_max_pixels": 2**32 - 1},
        {"clip.vision.attention.head_count": 2**20},
        {"clip.vision.embedding_length": 2**31},
        {"clip.vision.image_size": 0},
        {"clip.vision.patch_size": True},
        {"clip.vision.spatial_merge_size": 2**20},
        {"clip.has_vision_encoder": False},
    ],
    ids=str,
)
def test_a_hostile_projector_ends_in_a_named_error(change: Json) -> None:
    with pytest.raises((DamagedGGUF, UnsupportedModel), match=r"clip|encoder"):
        companion(header(qwen2_5vl()[0] | change), PROJECTOR)


def test_the_largest_numbers_that_are_let_through_stay_in_bounds() -> None:
    most = {
        "clip.vision.patch_size": 1,
        "clip.vision.image_size": 1023,
        "clip.vision.attention.head_count": 4096,
        "clip.vision.embedding_length": 2**20,
        "clip.vision.feed_forward_length": 2**20,
    }
    described = companion(header(qwen2_5vl()[0] | most), PROJECTOR)
    assert described.bound_bytes(flash_attention=False) < 2**63
