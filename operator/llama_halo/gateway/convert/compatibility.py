"""What becomes of each field, content part, tool and item of the client APIs, by the target's API.

Nothing vanishes: each is passed on, translated, refused with 400, or omitted, and then named in the
header `x-omitted` of the response.
`docs/spec/api-compatibility.md` is rendered from these tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from llama_halo.gateway.convert.client_tools import is_hosted
from llama_halo.gateway.convert.common import objects_in
from llama_halo.gateway.convert.documents import part_kinds
from llama_halo.gateway.http.errors import Failure

Json = Mapping[str, Any]


class Decision(StrEnum):
    """What becomes of one thing of a request."""

    PASSED = "passed on"
    TRANSLATED = "translated"
    REFUSED = "refused"
    OMITTED = "omitted"


P, T, R, OM = Decision.PASSED, Decision.TRANSLATED, Decision.REFUSED, Decision.OMITTED
TARGETS = ("llama-server", "OpenAI", "Anthropic", "Ollama")
"""llama-server is a model of the cluster; the others are the protocols of providers."""


@dataclass(frozen=True)
class Row:
    """The decisions for one field, part, tool or item, in the order of `TARGETS`."""

    name: str
    """A field may be nested by a dot."""
    decisions: tuple[Decision, Decision, Decision, Decision]
    reason: str = ""
    """The reason, where it is omitted or refused."""

    def of(self, target: str) -> Decision:
        return self.decisions[TARGETS.index(target)]


@dataclass(frozen=True)
class Section:
    """One category of one client API: its fields, or its kinds of parts, tools or items."""

    api: str
    category: str
    """`fields`, `parts`, `tools` or `items`."""
    rows: tuple[Row, ...]


def _rows(
    names: str, decisions: tuple[Decision, Decision, Decision, Decision], reason: str = ""
) -> tuple[Row, ...]:
    return tuple(Row(name, decisions, reason) for name in names.split())


_SERVED_BY_ANTHROPIC = "Anthropic's servers alone act on it"
_SERVED_BY_OPENAI = "only OpenAI's servers act on it"
_SET_BY_MODEL = "the LlamaModel sets it"
_FILE_ID = "file IDs are refused: send the content"
_NO_EQUIVALENT = "no equivalent in the API"
_RUN_BY_CLIENT = "runs in the client in a form of its own: declare a function"
_STORED = "the router stores no conversations"

ANTHROPIC = (
    Section(
        "anthropic",
        "fields",
        (
            *_rows("model max_tokens temperature", (P, T, P, T)),
            *_rows("messages system tools stream stop_sequences", (T, T, P, T)),
            *_rows("top_p", (P, P, P, T)),
            *_rows("top_k", (P, OM, P, T), "no equivalent in the API"),
            *_rows("tool_choice", (T, T, P, OM), "Ollama cannot be made to call a tool"),
            *_rows("thinking", (T, OM, P, T), "OpenAI's API has no budget of thoughts"),
            *_rows("output_config.format", (T, T, P, T)),
            *_rows(
                "output_config.effort output_config.task_budget", (OM, OM, P, OM), "models differ"
            ),
            *_rows("mcp_servers", (OM, OM, P, OM), _SERVED_BY_ANTHROPIC),
            *_rows(
                "metadata service_tier cache_control diagnostics inference_geo speed"
                " user_profile_id workspace_id betas billing_policy compaction context_management"
                " fallback_credit_token fallbacks safeguards",
                (OM, OM, P, OM),
                _SERVED_BY_ANTHROPIC,
            ),
            *_rows("container thread", (R, R, P, R), _STORED),
        ),
    ),
    Section(
        "anthropic",
        "parts",
        (
            *_rows("text tool_use tool_result", (P, T, P, T)),
            *_rows("image", (P, T, P, T), "file IDs are refused"),
            *_rows("document", (T, T, P, T), "file IDs are refused"),
            *_rows("search_result tool_reference browser_state", (T, T, P, T)),
            *_rows("thinking", (P, T, P, T)),
            *_rows("compaction", (T, T, P, T)),
            *_rows(
                "server_tool_use web_search_tool_result web_fetch_tool_result advisor_tool_result"
                " code_execution_tool_result bash_code_execution_tool_result"
                " text_editor_code_execution_tool_result tool_search_tool_result mcp_tool_use"
                " mcp_tool_result",
                (T, T, P, T),
            ),
            *_rows("tool_addition tool_removal", (T, T, P, T)),
            *_rows(
                "redacted_thinking mcp_tool_listing fallback",
                (OM, OM, P, OM),
                "only Anthropic's servers can read it",
            ),
            *_rows("container_upload", (R, R, P, R), _FILE_ID),
        ),
    ),
    Section(
        "anthropic",
        "tools",
        (
            *_rows("custom", (T, T, P, T)),
            *_rows(
                "bash_20241022 bash_20250124 text_editor_20241022 text_editor_20250124"
                " text_editor_20250429 text_editor_20250728 memory_20250818 computer_20241022"
                " computer_20250124 computer_20251124",
                (T, T, P, T),
            ),
            *_rows(
                "browser_toolset_20260801 computer_toolset_20260801", (R, R, P, R), _RUN_BY_CLIENT
            ),
            *_rows(
                "web_search_20250305 web_search_20260209 web_search_20260318 web_fetch_20250910"
                " web_fetch_20260209 web_fetch_20260309 web_fetch_20260318"
                " code_execution_20250522 code_execution_20250825 code_execution_20260120"
                " code_execution_20260521 tool_search_tool_bm25_20251119 tool_search_tool_bm25"
                " tool_search_tool_regex_20251119 tool_search_tool_regex mcp_toolset"
                " advisor_20260301",
                (OM, OM, P, OM),
                "only Anthropic's servers can run it",
            ),
        ),
    ),
)

CHAT = (
    Section(
        "chat",
        "fields",
        (
            *_rows("model messages tools stream", (T, P, T, T)),
            *_rows("max_tokens max_completion_tokens temperature top_p stop", (P, P, T, T)),
            *_rows("response_format", (P, P, T, T)),
            *_rows("tool_choice", (T, P, T, OM), "Ollama cannot be made to call a tool"),
            *_rows("frequency_penalty presence_penalty seed", (P, P, OM, T), _NO_EQUIVALENT),
            *_rows("logprobs top_logprobs", (P, P, OM, OM), _NO_EQUIVALENT),
            *_rows("logit_bias", (P, P, OM, OM), _NO_EQUIVALENT),
            *_rows("n", (P, P, R, R), "the API gives one answer"),
            *_rows("parallel_tool_calls", (P, P, T, OM), _NO_EQUIVALENT),
            *_rows("reasoning_effort", (P, P, OM, T), "models differ"),
            *_rows("stream_options", (T, P, T, T)),
            *_rows(
                "modalities prediction verbosity store metadata user service_tier"
                " prompt_cache_key prompt_cache_options prompt_cache_retention safety_identifier"
                " moderation web_search_options",
                (OM, P, OM, OM),
                _SERVED_BY_OPENAI,
            ),
            *_rows("audio", (R, P, R, R), "the model speaks text"),
            *_rows("functions function_call", (R, P, R, R), "use tools, which replaced it"),
        ),
    ),
    Section(
        "chat",
        "parts",
        (
            *_rows("text", (P, P, T, T)),
            *_rows("refusal", (T, P, T, T)),
            *_rows("image_url", (P, P, T, T)),
            *_rows("input_audio", (P, P, R, R), _NO_EQUIVALENT),
            *_rows("file", (T, P, T, T), "file IDs are refused; PDF is the only binary format"),
        ),
    ),
    Section(
        "chat",
        "tools",
        (*_rows("function", (P, P, T, P)), *_rows("custom", (T, P, T, T))),
    ),
)

RESPONSES = (
    Section(
        "responses",
        "fields",
        (
            *_rows("model input tools stream text.format", (T, T, T, T)),
            *_rows("text.verbosity", (OM, OM, OM, OM), _SERVED_BY_OPENAI),
            *_rows("instructions max_output_tokens temperature top_p", (P, T, T, T)),
            *_rows("tool_choice", (T, T, T, OM), "Ollama cannot be made to call a tool"),
            *_rows("parallel_tool_calls", (P, T, T, OM), _NO_EQUIVALENT),
            *_rows("reasoning.effort", (P, T, OM, T), "models differ"),
            *_rows("top_logprobs", (OM, OM, OM, OM), _SERVED_BY_OPENAI),
            *_rows(
                "reasoning.summary reasoning.generate_summary reasoning.context reasoning.mode"
                " stream_options store include metadata user"
                " service_tier truncation prompt_cache_key prompt_cache_options"
                " prompt_cache_retention safety_identifier moderation max_tool_calls"
                " context_management access_programs image",
                (OM, OM, OM, OM),
                _SERVED_BY_OPENAI,
            ),
            *_rows("background", (R, R, R, R), "requests are answered at once: leave it out"),
            *_rows("conversation previous_response_id prompt", (R, R, R, R), _STORED),
        ),
    ),
    Section(
        "responses",
        "parts",
        (
            *_rows("input_text output_text refusal summary_text reasoning_text", (P, T, T, T)),
            *_rows("input_image", (P, T, T, T), "file IDs are refused"),
            *_rows(
                "input_file", (T, T, T, T), "file IDs are refused; PDF is the only binary format"
            ),
        ),
    ),
    Section(
        "responses",
        "items",
        (
            *_rows("message function_call function_call_output", (P, T, T, T)),
            *_rows("custom_tool_call custom_tool_call_output", (T, T, T, T)),
            *_rows("reasoning", (P, T, OM, T), "Anthropic takes only thoughts that it signed"),
            *_rows("additional_tools tool_search_output configuration_update", (T, T, T, T)),
            *_rows(
                "file_search_call web_search_call code_interpreter_call mcp_call"
                " mcp_approval_request mcp_approval_response tool_search_call",
                (T, T, T, T),
            ),
            *_rows("mcp_list_tools", (OM, OM, OM, OM), _SERVED_BY_OPENAI),
            *_rows("item_reference", (R, R, R, R), _STORED),
            *_rows(
                "computer_call computer_call_output local_shell_call local_shell_call_output"
                " shell_call shell_call_output apply_patch_call apply_patch_call_output",
                (R, R, R, R),
                _RUN_BY_CLIENT,
            ),
            *_rows(
                "compaction compaction_trigger image_generation_call program program_output",
                (R, R, R, R),
                "only OpenAI's servers can read or make it",
            ),
        ),
    ),
    Section(
        "responses",
        "tools",
        (
            *_rows("function", (P, T, T, T)),
            *_rows("custom namespace", (T, T, T, T)),
            *_rows(
                "file_search web_search web_search_2025_08_26 web_search_preview"
                " web_search_preview_2025_03_11 mcp code_interpreter image_generation"
                " programmatic_tool_calling",
                (OM, OM, OM, OM),
                "only OpenAI's servers can run it",
            ),
            *_rows("tool_search", (OM, OM, OM, OM), "the tools that it would find are all offered"),
            *_rows(
                "computer computer_use_preview local_shell shell apply_patch",
                (R, R, R, R),
                _RUN_BY_CLIENT,
            ),
        ),
    ),
)

_OLLAMA_SHARED = (
    *_rows("model stream format", (T, T, T, P)),
    *_rows("options.num_predict options.stop", (T, T, T, P)),
    *_rows("options.temperature options.top_p", (P, T, T, P)),
    *_rows("options.top_k", (P, OM, T, P), "no equivalent in the API"),
    *_rows("options.seed", (P, T, OM, P), _NO_EQUIVALENT),
    *_rows("options.presence_penalty options.frequency_penalty", (P, T, OM, P), _NO_EQUIVALENT),
    *_rows(
        "options.num_keep options.min_p options.typical_p options.repeat_penalty"
        " options.repeat_last_n options.mirostat options.mirostat_tau options.mirostat_eta",
        (T, OM, OM, P),
        _NO_EQUIVALENT,
    ),
    *_rows(
        "options.num_ctx options.num_batch options.num_gpu options.main_gpu options.low_vram"
        " options.f16_kv options.logits_all options.vocab_only options.use_mmap options.use_mlock"
        " options.embedding_only options.numa options.num_thread options.tfs_z"
        " options.penalize_newline keep_alive",
        (OM, OM, OM, P),
        _SET_BY_MODEL,
    ),
    *_rows("think", (T, OM, OM, P), "models differ"),
    *_rows("logprobs top_logprobs", (OM, OM, OM, P), _NO_EQUIVALENT),
)

OLLAMA = (
    Section("ollama", "fields", (*_rows("messages tools", (T, T, T, P)), *_OLLAMA_SHARED)),
    Section(
        "ollama",
        "parts",
        (
            *_rows("role content images tool_name tool_calls", (T, T, T, P)),
            *_rows("thinking", (T, T, OM, P), "Anthropic takes only thoughts that it signed"),
        ),
    ),
    Section(
        "ollama generate",
        "fields",
        (
            *_rows("prompt system images", (T, T, T, P)),
            *_rows("suffix", (T, R, R, P), "the API completes no gap in a text"),
            *_rows("raw", (T, T, R, P), "the API has no prompt without a chat"),
            *_OLLAMA_SHARED,
            *_rows("template", (R, R, R, P), "the model's own chat template applies: send raw"),
            *_rows("context", (R, R, R, P), _STORED),
            *_rows("width height steps", (R, R, R, P), "the model makes no pictures"),
        ),
    ),
    Section(
        "ollama embed",
        "fields",
        (
            *_rows("model input dimensions", (T, T, R, P), _NO_EQUIVALENT),
            *_rows("truncate", (OM, OM, R, P), "too long a text is refused"),
            *_rows("options keep_alive", (OM, OM, R, P), _SET_BY_MODEL),
        ),
    ),
)

EMBEDDINGS = (
    Section(
        "embeddings",
        "fields",
        (
            *_rows("model input encoding_format", (P, P, R, P), _NO_EQUIVALENT),
            *_rows("dimensions", (T, P, R, P), _NO_EQUIVALENT),
            *_rows("user", (OM, P, R, P), _SERVED_BY_OPENAI),
        ),
    ),
)
SECTIONS = (*ANTHROPIC, *CHAT, *RESPONSES, *OLLAMA, *EMBEDDINGS)
API_OF = {
    "/v1/messages": "anthropic",
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/api/chat": "ollama",
    "/api/generate": "ollama generate",
    "/api/embed": "ollama embed",
    "/v1/embeddings": "embeddings",
}
"""By path of the client's API."""
PROTOCOL_OF = {
    "anthropic": "Anthropic",
    "chat": "OpenAI",
    "responses": "",
    "ollama": "Ollama",
    "ollama generate": "Ollama",
    "ollama embed": "Ollama",
    "embeddings": "OpenAI",
}
"""By API: the protocol of providers that get its requests as they came."""
_BY_NAME = {
    (section.api, section.category, row.name): row for section in SECTIONS for row in section.rows
}
_BY_TARGET = {
    target: {named: row.of(target) for named, row in _BY_NAME.items()} for target in TARGETS
}
_OMITTED_PARTS = {
    (section.api, target): {row.name for row in section.rows if row.of(target) is OM}
    for section in SECTIONS
    if section.category == "parts"
    for target in TARGETS
}
_NESTED = {(api, name.partition(".")[0]) for api, _, name in _BY_NAME if "." in name}


def decision(api: str, category: str, name: str, target: str) -> Decision | None:
    """Return the decision for one thing, None if the table does not know it."""
    return _BY_TARGET[target].get((api, category, name))


def check(api: str, body: dict[str, Any], target: str) -> tuple[str, ...]:
    """Return what is omitted of a client's request for a target.

    A field that no table knows is omitted by converters, too. Raises `Failure` (400) for a field
    that is refused.
    """
    omitted = [*_fields(api, body, target), *_kinds(api, body, target)]
    return tuple(dict.fromkeys(omitted)) if omitted else ()


def _fields(api: str, body: Json, target: str) -> Iterator[str]:
    decisions = _BY_TARGET[target]
    for name, value in _flat(api, body):
        becomes = decisions.get((api, "fields", name))
        if becomes is P or becomes is T or value is None or value in ([], {}):
            continue
        if value is False and name not in _SWITCHES:
            continue
        if becomes is None and api and target != "llama-server":
            yield name[:_MAX_NAME_CHARACTERS]
        elif becomes is R and value is not False and not _is_harmless(api, name, value):
            reason = _BY_NAME[api, "fields", name].reason
            raise Failure(400, f"{name}: not supported by this model: {reason}")
        elif becomes is OM:
            yield name


_SWITCHES = ("parallel_tool_calls", "think")
"""Fields of which also `false` asks for something."""


def _is_harmless(api: str, name: str, value: Any) -> bool:
    """Tell whether a field that is refused says nothing: one answer, or a field of another API."""
    is_other = api == "responses" and name == "prompt" and isinstance(value, str)
    return is_other or (name == "n" and value == 1)


_MAX_NAME_CHARACTERS = 40


def _flat(api: str, body: Json) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a body; those of an object that has rows of its own one by one."""
    for name, value in body.items():
        if (api, name) in _NESTED and isinstance(value, dict):
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())
        else:
            yield name, value


def _kinds(api: str, body: Json, target: str) -> Iterator[str]:
    """Yield the kinds of parts, tools and items that are omitted."""
    for index, tool in enumerate(objects_in(body.get("tools"))):
        if api == "anthropic" and tool.get("type") is None:
            continue  # a plain function
        kind = str(tool.get("type"))
        becomes = decision(api, "tools", kind, target)
        if becomes is None and api == "chat":
            raise Failure(
                400, f"tools.{index}.type: {kind[:60]!r} is not supported: declare a function"
            )
        if becomes == OM or (api == "anthropic" and is_hosted(tool) and becomes != P):
            yield f"tools.{kind}"
    if api == "chat" and target != "OpenAI":
        yield from _of_messages(body, target)
    for item in objects_in(body.get("input")):
        kind = str(item.get("type", "message"))
        if decision(api, "items", kind, target) == OM:
            yield kind
    if omitted := _OMITTED_PARTS.get((api, target)):
        yield from sorted(omitted & part_kinds(body))


def _of_messages(body: Json, target: str) -> Iterator[str]:
    """Yield the fields of a chat's messages that are omitted."""
    for index, message in enumerate(objects_in(body.get("messages"))):
        if message.get("audio"):
            raise Failure(
                400, f"messages.{index}.audio: recordings are with OpenAI's servers alone"
            )
        if message.get("name") and target != "llama-server":
            yield "messages.name"
