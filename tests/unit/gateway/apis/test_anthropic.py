"""What changes in a request of the Anthropic API on its way to llama-server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.gateway.apis import anthropic


def text(arguments: str) -> dict[str, str]:
    return {"type": "text", "text": arguments}


@pytest.mark.parametrize(
    ("messages", "folded"),
    [
        pytest.param(
            [{"role": "user", "content": "a"}, {"role": "system", "content": "s"}],
            [{"role": "user", "content": [text("a"), text("s")]}],
            id="a last system message joins the user's",
        ),
        pytest.param(
            [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
            [{"role": "user", "content": [text("s"), text("a")]}],
            id="a first one goes before it",
        ),
        pytest.param(
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "system", "content": [text("s")]},
                {"role": "user", "content": "c"},
            ],
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": [text("s"), text("c")]},
            ],
            id="one in the middle joins the next",
        ),
    ],
)
def test_system_messages_are_folded(messages: list[Any], folded: list[Any]) -> None:
    body = {"model": "x", "messages": messages}
    assert anthropic.upstream_body(body)["messages"] == folded


roles = st.lists(st.sampled_from(["user", "assistant", "system"]), min_size=1, max_size=8)


@given(roles)
def test_folding_leaves_no_system_message_and_loses_no_text(order: list[str]) -> None:
    messages = [{"role": role, "content": f"<{i}>"} for i, role in enumerate(order)]
    folded = anthropic.upstream_body({"model": "x", "messages": messages})["messages"]
    assert all(message["role"] != "system" for message in folded)
    output = "".join(
        message["content"]
        if isinstance(message["content"], str)
        else "".join(b["text"] for b in message["content"])
        for message in folded
    )
    assert output == "".join(f"<{i}>" for i in range(len(order)))


def test_the_billing_line_server_tools_and_disabled_thinking_are_mended() -> None:
    body = {
        "model": "x",
        "messages": [{"role": "user", "content": "a"}],
        "system": [text("x-anthropic-billing-header: 1"), text("You are")],
        "tools": [{"name": "Read", "input_schema": {}}, {"type": "web_search_20250305"}],
        "thinking": {"type": "disabled"},
    }
    mended = anthropic.upstream_body(body)
    assert mended["system"] == [text("You are")]
    assert [tool["name"] for tool in mended["tools"]] == ["Read"]
    assert mended["chat_template_kwargs"] == {"enable_thinking": False}
    none = anthropic.upstream_body({**body, "tool_choice": {"type": "none"}})
    assert "tools" not in none
