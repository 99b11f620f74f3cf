"""Settings of a client for a router with an engine."""

from __future__ import annotations

from typing import Any

from llama_halo.cli import env
from tests.support.engines import (
    CCR,
    LITELLM,
    SWAP,
    Json,
    spec,
    with_route,
)


def client_settings(client: str, engine: Json, **more: Any) -> str:
    model_dump = spec(engine, **more).model_dump(by_alias=True, exclude_none=True)
    metadata = {"namespace": "llm", "name": "main"}
    cr = {"metadata": metadata, "spec": model_dump, "status": {"url": "http://main-router:8080"}}
    return env.CLIENTS[client](env.router_of(cr, [], None))


def test_claude_code_asks_an_engine_for_names_that_it_knows() -> None:
    of_side_tasks = with_route(background="coder")
    swap = client_settings("claude-code", SWAP, **of_side_tasks)
    for name in ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL"):
        assert f"export {name}=default\n" in swap
    assert "export ANTHROPIC_DEFAULT_HAIKU_MODEL=background" in swap
    ccr = client_settings("claude-code", CCR, **of_side_tasks)
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL=claude-haiku" in ccr
    assert "ANTHROPIC_MODEL=" not in ccr
    assert "HAIKU" not in client_settings("claude-code", LITELLM, **of_side_tasks)
