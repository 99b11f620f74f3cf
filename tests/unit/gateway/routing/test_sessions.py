"""Which conversation a request belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.gateway.routing.sessions import session_of

USER = '{"device_id": "d", "session_id": "from-user-id"}'


ASKED = {"system": "s", "messages": [{"role": "system"}, {"role": "user", "content": "a"}]}


LATER = {**ASKED, "messages": [*ASKED["messages"], {"role": "assistant"}, {"role": "user"}]}


OTHER_ONE = {"system": "s", "messages": [{"role": "system"}, {"role": "user", "content": "b"}]}


@pytest.mark.parametrize(
    ("headers", "body", "same", "other"),
    [
        ({"x-claude-code-session-id": "one"}, {"metadata": {"user_id": USER}}, {}, None),
        ({"x-session-id": "two"}, {}, {"messages": [7]}, None),
        ({}, {"metadata": {"user_id": USER}}, {"user": "from-user-id"}, {"user": USER}),
        ({}, {"metadata": {"user_id": "plain"}}, {"user": "plain"}, {"user": "else"}),
        ({}, {"prompt_cache_key": "three", "user": "u"}, {"user": "three"}, {"user": "u"}),
        ({}, {"metadata": {"user_id": "[1"}}, {"user": "[1"}, {"user": "1"}),
        ({}, {"metadata": {"user_id": 7}, "user": 7, "messages": [1]}, {"messages": [1]}, {}),
        ({}, ASKED, LATER, OTHER_ONE),
        ({}, {"input": "a"}, {"input": "a"}, {"input": "b"}),
    ],
)
def test_a_session_is_what_the_client_calls_it_else_how_it_begins(
    headers: dict[str, str], body: Any, same: Any, other: Any
) -> None:
    assert session_of(headers, body) == session_of(headers, same)
    assert other is None or session_of(headers, body) != session_of(headers, other)


def test_a_number_that_two_keys_name_is_two_sessions() -> None:
    headers = {"x-session-id": "one"}
    alice, bob = session_of(headers, {}, "alice"), session_of(headers, {}, "bob")
    assert alice.conversation != bob.conversation
    assert (alice.key, bob.key) == ("alice", "bob")
