"""No field, part, tool or item of the official SDKs' types is undecided."""

from __future__ import annotations

from typing import Any

import ollama
import pytest
from anthropic.types import beta, message_create_params, tool_result_block_param
from anthropic.types.beta import message_create_params as beta_params
from ollama._types import ChatRequest, EmbedRequest, GenerateRequest
from openai.types import chat, embedding_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import (
    response_create_params,
    response_input_content_param,
    response_input_item_param,
    tool_param,
)

from hack import api_table
from llama_halo.gateway.convert.compatibility import (
    SECTIONS,
    TARGETS,
    Decision,
    check,
)
from llama_halo.gateway.http.errors import Failure
from tests.support.sdk_types import hints, kinds, members

BLOCKS = [*members(beta.BetaContentBlockParam), *members(tool_result_block_param.Content)]
WALKED: dict[tuple[str, str], set[str]] = {
    ("anthropic", "fields"): {
        *hints(message_create_params.MessageCreateParamsBase),
        *hints(beta_params.MessageCreateParamsBase),
    },
    ("anthropic", "parts"): kinds(BLOCKS),
    ("anthropic", "tools"): kinds(members(beta.BetaToolUnionParam)),
    ("chat", "fields"): set(hints(completion_create_params.CompletionCreateParamsBase)),
    ("chat", "parts"): kinds(members(chat.ChatCompletionContentPartParam)),
    ("chat", "tools"): kinds(members(chat.ChatCompletionToolUnionParam)),
    ("responses", "fields"): set(hints(response_create_params.ResponseCreateParamsBase)),
    ("responses", "parts"): kinds(members(response_input_content_param.ResponseInputContentParam)),
    ("responses", "items"): kinds(members(response_input_item_param.ResponseInputItemParam)),
    ("responses", "tools"): kinds(members(tool_param.ToolParam)),
    ("ollama", "fields"): set(ChatRequest.model_fields),
    ("ollama", "parts"): set(ollama.Message.model_fields),
    ("ollama generate", "fields"): set(GenerateRequest.model_fields),
    ("ollama embed", "fields"): set(EmbedRequest.model_fields),
    ("embeddings", "fields"): set(hints(embedding_create_params.EmbeddingCreateParams)),
}


@pytest.mark.parametrize(("api", "category"), WALKED, ids="-".join)
def test_every_thing_of_the_sdks_types_is_decided(api: str, category: str) -> None:
    (section,) = (part for part in SECTIONS if (part.api, part.category) == (api, category))
    decided = {row.name.partition(".")[0] for row in section.rows}
    assert len(WALKED[api, category]) > 1
    assert not WALKED[api, category] - decided


def test_options_of_ollama_are_decided() -> None:
    for api in ("ollama", "ollama generate"):
        (section,) = (part for part in SECTIONS if (part.api, part.category) == (api, "fields"))
        named = {row.name.removeprefix("options.") for row in section.rows}
        assert set(ollama.Options.model_fields) <= named


def test_what_is_omitted_or_refused_has_a_reason() -> None:
    for section in SECTIONS:
        names = [row.name for row in section.rows]
        assert len(names) == len(set(names)), section
        for row in section.rows:
            if {Decision.OMITTED, Decision.REFUSED} & set(row.decisions):
                assert row.reason, row


@pytest.mark.parametrize("target", TARGETS)
def test_a_refused_field_is_named_and_an_omitted_one_is_listed(target: str) -> None:
    for section in SECTIONS:
        if section.category != "fields":
            continue
        for row in section.rows:
            name, _, inner = row.name.partition(".")
            body: dict[str, Any] = {name: {inner: "x"} if inner else ["x"]}
            if row.of(target) == "refused":
                with pytest.raises(Failure, match=f"{row.name}: "):
                    check(section.api, body, target)
            else:
                listed = check(section.api, body, target)
                assert (row.name in listed) == (row.of(target) == "omitted")


def test_the_page_of_the_documentation_is_current() -> None:
    assert api_table.PATH.read_text() == api_table.render()
