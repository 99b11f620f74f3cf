"""What an answer to the check of tool calling shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.status.verification import (
    Verification,
    evaluate,
    from_status,
    is_enabled,
    verification_status,
)

Json = dict[str, Any]
CUT: Json = {"finish_reason": "length"}
KNOWS: Json = {"chat_template_caps": {"supports_tools": True}}
LACKS: Json = {"chat_template_caps": {"supports_tools": False}}


def answer(**message: Any) -> Json:
    timings = {"prompt_per_second": 512.34, "predicted_per_second": 41.05}
    return {"choices": [{"message": {"role": "assistant", **message}}], "timings": timings}


def call(arguments: Any, name: str = "get_weather") -> Json:
    function = {"name": name, "arguments": arguments}
    return answer(tool_calls=[{"type": "function", "function": function}])


ANSWERS: dict[str, tuple[Json, int, Any, str, str]] = {
    "a call": (KNOWS, 200, call('{"city": "Paris"}'), "True Calls", '"city": "Paris"'),
    "a call of an older server": ({}, 200, call('{"city":"Paris"}'), "True Calls", "Paris"),
    "a call against what the template says": (
        LACKS,
        200,
        call('{"city": "Paris"}'),
        "True Calls",
        "Paris",
    ),
    "a template without tools": (
        LACKS,
        200,
        answer(content="It is sunny."),
        "False NoToolTemplate",
        "chat template does not render tools",
    ),
    "text": (
        KNOWS,
        200,
        answer(content="I would\ncall get_weather."),
        "False TextInsteadOfCall",
        "I would call get_weather.",
    ),
    "an empty answer": (
        KNOWS,
        200,
        answer(content=""),
        "False TextInsteadOfCall",
        "it answered with text: ",
    ),
    "thoughts without an end": (
        KNOWS,
        200,
        answer(content="", reasoning_content="Hm. The user"),
        "Unknown StillThinking",
        "thought for 256 tokens",
    ),
    "arguments that are cut": (
        KNOWS,
        200,
        call('{"city": "Par'),
        "False MalformedArguments",
        '{"city": "Par',
    ),
    "arguments of another name": (
        KNOWS,
        200,
        call('{"town": "Paris"}'),
        "False MalformedArguments",
        "town",
    ),
    "arguments of another type": (
        KNOWS,
        200,
        call('["Paris"]'),
        "False MalformedArguments",
        "Paris",
    ),
    "no arguments": (KNOWS, 200, call(None), "False MalformedArguments", "None"),
    "another tool": (KNOWS, 200, call("{}", "search"), "False WrongTool", "search"),
    "a server without templates": (
        {},
        500,
        {"error": {"code": 500, "message": "tools param requires --jinja flag"}},
        "False ServerTooOld",
        "use a newer image",
    ),
    "a server without the route": ({}, 404, {"error": "no"}, "False ServerTooOld", "404"),
    "a template that fails": (
        KNOWS,
        500,
        {"error": {"message": "Jinja Exception: Conversation roles must alternate"}},
        "False TemplateFails",
        "roles must alternate",
    ),
    "a call that was cut": (
        KNOWS,
        200,
        {**call('{"city": "Par'), "choices": [{**call('{"city": "Par')["choices"][0], **CUT}]},
        "Unknown CutShort",
        "256 tokens",
    ),
    "thoughts in the text": (
        KNOWS,
        200,
        answer(content="<think>The user wants"),
        "Unknown StillThinking",
        "256 tokens",
    ),
    "half of an answer": (KNOWS, 200, None, "Unknown NoAnswer", "no message"),
    "a server that is not well": (
        KNOWS,
        503,
        {"error": {"message": "Loading model"}},
        "Unknown NoAnswer",
        "Loading model",
    ),
    "no JSON": (KNOWS, 502, None, "Unknown NoAnswer", "502"),
}


@pytest.mark.parametrize(
    ("props", "status", "body", "shown", "says"), ANSWERS.values(), ids=ANSWERS
)
def test_an_answer_shows(props: Json, status: int, body: Any, shown: str, says: str) -> None:
    verification = evaluate("abc", props, status, body)
    assert f"{verification.status} {verification.reason}" == shown
    assert says in verification.message
    assert verification.config_hash == "abc"


def test_its_speed_is_told_and_all_of_it_is_read_back() -> None:
    verification = evaluate("abc", KNOWS, 200, call('{"city": "Paris"}'))
    assert (verification.prompt_tokens_per_second, verification.tokens_per_second) == (
        "512.3",
        "41.0",
    )
    kind, status, reason, message = verification.detail
    condition = {"type": kind, "status": status, "reason": reason, "message": message}
    assert (
        from_status({**verification_status(verification), "conditions": [condition]})
        == verification
    )
    assert from_status({}) is None


@given(
    status=st.integers(100, 599),
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "message",
                        "tool_calls",
                        "function",
                        "arguments",
                        "error",
                        "timings",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    ),
)
def test_whatever_a_server_says_is_judged(status: int, body: Any) -> None:
    verification = evaluate("abc", {"chat_template_caps": body}, status, body)
    assert isinstance(verification, Verification)
    assert verification.status in ("True", "False", "Unknown")
    assert len(verification.message) < 600


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, True),
        ({"mode": "Chat"}, True),
        ({"verify": {"toolCalling": "Auto"}}, True),
        ({"verify": {"toolCalling": "Off"}}, False),
        ({"mode": "Embedding"}, False),
    ],
)
def test_who_is_tried(spec: Json, expected: bool) -> None:
    source = {"local": {"path": "a.gguf"}}
    assert is_enabled(LlamaModelSpec.model_validate({"source": source, **spec})) is expected
