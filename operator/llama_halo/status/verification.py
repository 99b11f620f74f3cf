"""The check whether a model calls tools and how fast it is: the request, and the verdict.

A coding agent needs a model that calls tools instead of describing what it would do. Whether a
model does so depends on its file, its chat template and the server's version together. The operator
therefore checks it, once for each configuration that serves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.model import Mode
from llama_halo.contract.reasons import ConditionType
from llama_halo.status.conditions import Detail, condition

Json = dict[str, Any]
PATH = "/v1/chat/completions"
MAX_TOKENS = 256
NAME, ARGUMENT = "get_weather", "city"
MAX_QUOTED_CHARACTERS = 120
NO_ANSWER = "NoAnswer"
_NO_TOOLS = (404, 405, 501)


@dataclass(frozen=True)
class Verification:
    """The result of a check of one configuration."""

    config_hash: str
    status: str
    """Whether it calls tools: True, False or Unknown."""
    reason: str
    message: str
    prompt_tokens_per_second: str = ""
    tokens_per_second: str = ""

    @property
    def detail(self) -> Detail:
        return ConditionType.TOOL_CALLING, self.status, self.reason, self.message


def is_enabled(spec: LlamaModelSpec) -> bool:
    """Tell whether a model is checked: its mode is Chat, and spec.verify does not exempt it."""
    return spec.mode in (None, Mode.CHAT) and (
        spec.verify is None or spec.verify.tool_calling != "Off"
    )


def tool_call_request() -> Json:
    """Return the request: a tool, a prompt to call it, and a limit of `MAX_TOKENS`."""
    parameters = {
        "type": "object",
        "properties": {ARGUMENT: {"type": "string", "description": "The city's name."}},
        "required": [ARGUMENT],
    }
    tool = {
        "name": NAME,
        "description": "Tells the weather in a city.",
        "parameters": parameters,
    }
    question = "What is the weather in Paris? Use the tool."
    return {
        "messages": [{"role": "user", "content": question}],
        "tools": [{"type": "function", "function": tool}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": False,
        # The check is not about thinking, which may use up all of the tokens.
        "chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": "low"},
    }


def evaluate(config_hash: str, props: Json, status: int, body: Any) -> Verification:
    """Return the result; `props` is the server's `GET /props`, `body` its answer to the request."""
    answer = body if isinstance(body, dict) else {}
    verdict, reason, message = _judge(props, status, answer)
    timings = answer.get("timings")
    timings = timings if isinstance(timings, dict) else {}
    return Verification(
        config_hash,
        verdict,
        reason,
        message,
        _rate(timings.get("prompt_per_second")),
        _rate(timings.get("predicted_per_second")),
    )


def _judge(props: Json, status: int, answer: Json) -> tuple[str, str, str]:
    if status != 200:
        return _refused(status, answer)
    message, cut = _message(answer)
    if message is None:
        return "Unknown", NO_ANSWER, "the server's answer to the check has no message"
    call = _first_call(message)
    if call is None:
        return _judge_text(props, message)
    verdict = _judge_call(call)
    if cut and verdict[0] != "True":
        return "Unknown", "CutShort", f"its tool call was not complete after {MAX_TOKENS} tokens"
    return verdict


def _judge_text(props: Json, message: Json) -> tuple[str, str, str]:
    capabilities = props.get("chat_template_caps")
    if isinstance(capabilities, dict) and capabilities.get("supports_tools") is False:
        explanation = (
            "the model's chat template does not render tools: agents get text instead of calls;"
            " use a model or a GGUF with a template that does (such as Qwen3, gpt-oss, Hermes 4)"
        )
        return "False", "NoToolTemplate", explanation
    text = str(message.get("content") or "")
    if text.lstrip().startswith("<think>") or (message.get("reasoning_content") and not text):
        explanation = f"it thought for {MAX_TOKENS} tokens without calling the tool"
        return "Unknown", "StillThinking", explanation
    return (
        "False",
        "TextInsteadOfCall",
        f"asked to call {NAME}, it answered with text: {_short(text)}",
    )


def _refused(status: int, answer: Json) -> tuple[str, str, str]:
    error = answer.get("error")
    refusal = str((error.get("message") if isinstance(error, dict) else error) or "")
    if "requires --jinja" in refusal or status in _NO_TOOLS:
        message = (
            f"this server cannot take tools (HTTP {status}: {_short(refusal)}): use a newer image"
        )
        return "False", "ServerTooOld", message
    if "template" in refusal.lower() or "jinja" in refusal.lower():
        message = f"the model's chat template fails with tools: {_short(refusal)}"
        return "False", "TemplateFails", message
    return "Unknown", NO_ANSWER, f"the server answered the check with {status}: {_short(refusal)}"


def _judge_call(call: Json) -> tuple[str, str, str]:
    written = call.get("arguments")
    try:
        arguments = json.loads(written) if isinstance(written, str) else written
    except ValueError:
        arguments = None
    if call.get("name") != NAME:
        message = (
            f"it called {_short(str(call.get('name')))}, which does not exist, instead of {NAME}"
        )
        return "False", "WrongTool", message
    if not isinstance(arguments, dict) or not isinstance(arguments.get(ARGUMENT), str):
        message = f"it called {NAME} with invalid arguments: {_short(str(written))}"
        return "False", "MalformedArguments", message
    return "True", "Calls", f"it called {NAME} with {_short(json.dumps(arguments))}"


def _message(answer: Json) -> tuple[Json | None, bool]:
    """Return the message of an answer, None without one, and whether the token limit cut it."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict) or not isinstance(first.get("message"), dict):
        return None, False
    return first["message"], first.get("finish_reason") == "length"


def _first_call(message: Json) -> Json | None:
    calls = message.get("tool_calls")
    first = calls[0] if isinstance(calls, list) and calls else None
    function = first.get("function") if isinstance(first, dict) else None
    return function if isinstance(function, dict) else None


def _rate(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) and value > 0 else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUOTED_CHARACTERS else f"{line[:MAX_QUOTED_CHARACTERS]}…"


def from_status(status: Mapping[str, Any]) -> Verification | None:
    """Return the result that a status records, None without one."""
    config_hash = status.get("verifiedConfigHash", "")
    tool_calling, speed = condition(status, ConditionType.TOOL_CALLING), status.get("speed") or {}
    if not config_hash or not tool_calling:
        return None
    return Verification(
        config_hash,
        tool_calling["status"],
        tool_calling["reason"],
        tool_calling["message"],
        speed.get("promptTokensPerSecond", ""),
        speed.get("tokensPerSecond", ""),
    )


def verification_status(verification: Verification) -> Json:
    """Return the status fields of a result, apart from its condition."""
    speed = {
        "promptTokensPerSecond": verification.prompt_tokens_per_second,
        "tokensPerSecond": verification.tokens_per_second,
    }
    figures = {name: value for name, value in speed.items() if value}
    return {"verifiedConfigHash": verification.config_hash} | (
        {"speed": figures} if figures else {}
    )


NOT_YET: Detail = (
    ConditionType.TOOL_CALLING,
    "Unknown",
    "NotChecked",
    "checked when the model serves, nobody uses it, and its server answers the operator",
)
