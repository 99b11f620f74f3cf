"""Files that are no language model, told apart from damaged ones."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.errors import DamagedGGUF, UnsupportedModel
from llama_halo.gguf.header import read_header
from llama_halo.gguf.profile import Profile, from_json, profile, to_json
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS

Json = dict[str, Any]
WEIGHTS = [("token_embd.weight", [32], 0, 0)]
LLAMA = MODELS["llama-3.2-3b"]


def read(metadata: Json, tensors: Any = WEIGHTS) -> Profile:
    data = header_bytes(metadata, tensors)
    return profile(read_header(lambda at, count: data[at : at + count]), "x.gguf")


@pytest.mark.parametrize(
    ("metadata", "tensors", "says"),
    [
        pytest.param(LLAMA, [], "a vocabulary alone", id="vocabulary"),
        pytest.param({"general.architecture": "flux"}, WEIGHTS, "'flux'", id="image generator"),
        pytest.param(
            {"general.architecture": "clip_l", "general.type": "model"},
            WEIGHTS,
            "no language model: llama.cpp has no architecture 'clip_l'",
            id="text encoder",
        ),
        pytest.param(
            {"general.architecture": "controlvector", "controlvector.layer_count": 31},
            WEIGHTS,
            "a control vector cannot be served",
            id="control vector",
        ),
        pytest.param(
            {"general.type": "imatrix", "imatrix.chunk_count": 10, "imatrix.datasets": ["wiki"]},
            WEIGHTS,
            "an importance matrix",
            id="importance matrix",
        ),
    ],
)
def test_a_file_without_a_language_model_is_unsupported(
    metadata: Json, tensors: Any, says: str
) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        read(metadata, tensors)


def test_a_model_of_llama_cpp_that_lacks_a_number_is_damaged() -> None:
    cut = {name: value for name, value in LLAMA.items() if not name.endswith("embedding_length")}
    with pytest.raises(DamagedGGUF, match=r"llama.embedding_length is missing"):
        read(cut)


def test_a_model_with_weights_is_read() -> None:
    assert read(LLAMA).model.architecture == "llama"


@pytest.mark.parametrize(
    ("metadata", "tensors", "pooling"),
    [
        ({}, [], "absent"),
        ({"llama.pooling_type": 0}, [], "none"),
        ({"llama.pooling_type": 3}, [], "last"),
        ({"llama.pooling_type": 4}, [], "rank"),
        ({"llama.pooling_type": 9}, [], "absent"),
        ({}, [("cls.output.weight", [32], 0, 128)], "rank"),
    ],
)
def test_the_pooling_is_what_the_header_says(metadata: Json, tensors: Any, pooling: str) -> None:
    value = read({**LLAMA, **metadata}, [*WEIGHTS, *tensors])
    assert value.pooling == pooling
    assert from_json(to_json(value)) == value
    earlier = {name: part for name, part in to_json(value).items() if name != "pooling"}
    assert not from_json(earlier).pooling
