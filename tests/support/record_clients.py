"""Record what real clients send: `python -m tests.support.record_clients [CLIENT …]`.

Each client runs against a canned model that calls one of its tools and then answers. Its requests
go to `tests/gateway/recordings/CLIENT.json`, without personal details, and cut to a size that a
person can read: `tests/gateway/test_recordings.py` replays them. aider must be on PATH.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai

from hack.testbed import clients
from tests.support import agents, mcp_server
from tests.support.canned_server import (
    Canned,
    Reply,
    block,
    canned,
    chat_answer,
    json_reply,
    message_answer,
    response_answer,
    text_message,
)
from tests.support.files import PICTURE, pdf_of

Json = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[1] / "gateway/recordings"
MAX_REQUESTS, MAX_TOOLS, MAX_TEXT, MAX_DESCRIPTION = 4, 8, 300, 60
READERS = (
    *("Read", "read", "read_file", "exec_command", "shell_command", "shell", "bash", "view"),
    "mcp__notes__read_it",
)
"""Names of tools that read a file, the best first."""
NOTE = "The word is quicksilver.\n"
_PRIVATE = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "0" * 8),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "0" * 8),
    (re.compile(r"20\d\d-\d\d-\d\d(T[\d:.]+Z?)?"), "2026-01-01"),
    (
        re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? (\d+ )?[A-Z][a-z]+ ?\d*,? 20\d\d"),
        "today",
    ),
    (re.compile(r"Linux [\w.-]+|\blinux [\w.-]*\d[\w.-]*"), "Linux"),
)


def answer(note: Path) -> Callable[[str, Json], Reply]:
    """Return a model that reads the note once, in each API's words."""

    def reply(path: str, body: Json) -> Reply:
        text = json.dumps(body)
        is_done = any(mark in text for mark in ("tool_result", '"tool"', "function_call_output"))
        tool = None if is_done else _reader(body)
        api = path.partition("?")[0]
        if tool is None:
            return _ENDS.get(api, _ENDS["/v1/chat/completions"])
        return _call(api, str(tool["name"]), json.dumps(_arguments(tool, note)), tool)

    return reply


def _call(api: str, name: str, arguments: str, tool: Json) -> Reply:
    if api == "/v1/messages":
        use = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
        piece = {"type": "input_json_delta", "partial_json": arguments}
        return message_answer(*block(0, use, piece), reason="tool_use")
    if api == "/v1/responses":
        head = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name}
        namespace = {"namespace": tool["namespace"]} if "namespace" in tool else {}
        ending = {"arguments": arguments, "status": "completed"}
        return response_answer({**head, **namespace, **ending})
    function = {"name": name, "arguments": arguments}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    return chat_answer({"tool_calls": [call]}, reason="tool_calls")


_PART = {"type": "output_text", "text": "Done.", "annotations": []}
_MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
_LINE = {"model": "coder", "message": {"role": "assistant", "content": "Done."}, "done": True}
_ENDS = {
    "/v1/messages": text_message("Done."),
    "/v1/responses": response_answer({**_MESSAGE, "content": [_PART]}),
    "/v1/chat/completions": chat_answer({"content": "Done."}),
    "/api/chat": json_reply(_LINE),
}


def _reader(body: Json) -> Json | None:
    """Return the tool that reads files best, with its name, schema and namespace."""
    offered: dict[str, Json] = {}
    for tool in body.get("tools") or ():
        function = tool.get("function") or tool
        offered[str(function.get("name"))] = function
        for inner in tool.get("tools") or ():
            offered.setdefault(str(inner["name"]), {**inner, "namespace": tool["name"]})
    return next((offered[name] for name in (*READERS, "read_it") if name in offered), None)


def _arguments(tool: Json, note: Path) -> Json:
    """Return arguments that the tool's schema wants."""
    schema = tool.get("input_schema") or tool.get("parameters") or {}
    arguments: Json = {}
    for name, kind in (schema.get("properties") or {}).items():
        if "path" in name.lower() or "file" in name.lower():
            arguments[name] = str(note)
        elif name in ("command", "cmd"):
            is_list = kind.get("type") == "array"
            arguments[name] = ["cat", str(note)] if is_list else f"cat {note}"
        elif name in schema.get("required", ()):
            arguments[name] = "read" if kind.get("type") == "string" else 1
    return arguments


def claude_code(url: str, home: Path) -> None:
    bypass = ("--permission-mode", "bypassPermissions")
    agents.claude(url, "read note.txt", *bypass, home=home)


def codex(url: str, home: Path) -> None:
    (home / ".codex").mkdir()
    arguments = json.dumps([mcp_server.__file__, "notes", str(home / "log")])
    (home / ".codex/config.toml").write_text(
        'model = "coder"\nmodel_provider = "halo"\n'
        f'[model_providers.halo]\nname = "halo"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
        f'[mcp_servers.notes]\ncommand = "{sys.executable}"\nargs = {arguments}\n'
    )
    flags = ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    agents.run(clients.codex(), *flags, "read note.txt", home=home)


def opencode(url: str, home: Path) -> None:
    models = {"coder": {"name": "coder"}}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": f"{url}/v1"}}
    config = {"model": "halo/coder", "provider": {"halo": {**provider, "models": models}}}
    (home / "opencode.json").write_text(json.dumps(config))
    quiet = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    agents.run(clients.opencode(), "run", "read note.txt", home=home, **quiet)


def qwen_code(url: str, home: Path) -> None:
    environment = {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "none",
        "OPENAI_MODEL": "coder",
    }
    flags = ("-p", "read note.txt", "--auth-type", "openai", "--yolo")
    agents.run(*clients.qwen_code(), *flags, home=home, **environment)


def aider(url: str, home: Path) -> None:
    environment = {"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": "none"}
    quiet = ("--no-git", "--yes-always", "--no-check-update", "--analytics-disable")
    model = ("--model", "openai/coder", "--no-show-model-warnings")
    program = shutil.which("aider") or "aider"
    flags = ("--message", "say what note.txt says", "note.txt")
    agents.run(program, *model, *quiet, *flags, home=home, **environment)


def sdks(url: str, _: Path) -> None:
    """A picture, a PDF and a tool by each SDK."""
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    pdf = base64.b64encode(pdf_of("the word is quicksilver")).decode()
    with anthropic.Anthropic(base_url=url, api_key="none") as claude:
        tool: Any = {"name": "read_file", "input_schema": schema}
        picture = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        document = {"type": "base64", "media_type": "application/pdf", "data": pdf}
        content: Any = [
            {"type": "image", "source": picture},
            {"type": "document", "title": "a.pdf", "source": document},
            {"type": "text", "text": "What are they?"},
        ]
        claude.messages.create(
            model="coder",
            max_tokens=99,
            messages=[{"role": "user", "content": content}],
            tools=[tool],
        )
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as gpt:
        shown: Any = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            {"type": "text", "text": "What is it?"},
        ]
        function: Any = {
            "type": "function",
            "function": {"name": "read_file", "parameters": schema},
        }
        list(
            gpt.chat.completions.create(
                model="coder",
                messages=[{"role": "user", "content": shown}],
                tools=[function],
                stream=True,
            )
        )
        items: Any = [
            {"type": "input_file", "file_data": f"data:application/pdf;base64,{pdf}"},
            {"type": "input_text", "text": "What does it say?"},
        ]
        list(
            gpt.responses.create(
                model="coder",
                input=[{"role": "user", "content": items}],
                tools=[{"type": "custom", "name": "apply_patch"}],
                stream=True,
            )
        )
    turn = {"role": "user", "content": "What is it?", "images": [PICTURE]}
    ollama.Client(url).chat("coder", messages=[turn], options={"num_ctx": 4096})


RECORDED: dict[str, Callable[[str, Path], None]] = {
    "claude-code": claude_code,
    "codex": codex,
    "opencode": opencode,
    "qwen-code": qwen_code,
    "aider": aider,
    "sdks": sdks,
}


def record(name: str) -> int:
    """Write a client's requests, and return how many they are."""
    with tempfile.TemporaryDirectory() as folder, canned() as server:
        home = Path(folder)
        note = home / "note.txt"
        note.write_text(NOTE)
        server.reply = answer(note)
        RECORDED[name](server.url, home)
        requests = [_cleaned(*request, home=folder) for request in _chosen(server)]
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(requests, indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(f"{text}\n")
    return len(requests)


def _chosen(server: Canned) -> list[tuple[str, dict[str, str], Json]]:
    """Return requests of different kinds, the longest of each."""
    chosen: dict[tuple[str, int, bool], tuple[str, dict[str, str], Json]] = {}
    for path, headers, body in server.asked:
        listed = body.get("messages") or body.get("input") or ()
        chosen[path, len(listed), bool(body.get("tools"))] = (path, headers, body)
    return list(chosen.values())[-MAX_REQUESTS:]


_COMMON = ("function", "custom", None)


def _cleaned(path: str, headers: dict[str, str], body: Json, *, home: str) -> Json:
    agent = headers.get("user-agent", "")
    tools = body.get("tools")
    if isinstance(tools, list) and len(tools) > MAX_TOOLS:
        rare = [tool for tool in tools if tool.get("type") not in ("function", "custom", None)]
        body = {
            **body,
            "tools": [
                *tools[:MAX_TOOLS],
                *(tool for tool in rare if tool not in tools[:MAX_TOOLS]),
            ],
        }
    return {"path": path, "user_agent": agent, "body": _clean(body, home)}


def _clean(value: Any, home: str, name: str = "") -> Any:
    if isinstance(value, dict):
        return {field: _clean(item, home, field) for field, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, home, name) for item in value]
    if not isinstance(value, str):
        return value
    text = value.replace(home, "/home/user/project")
    if name in ("data", "file_data", "url", "images"):
        return text
    for pattern, other in _PRIVATE:
        text = pattern.sub(other, text)
    limit = MAX_DESCRIPTION if name in ("description", "definition") else MAX_TEXT
    is_json = name in ("arguments", "user_id")
    return text if is_json or len(text) <= limit else f"{text[:limit]}…"


def main() -> None:
    names = sys.argv[1:] or list(RECORDED)
    for name in names:
        if name == "aider" and shutil.which("aider") is None:
            print("aider: not on PATH, left as it is")
            continue
        print(f"{name}: {record(name)} requests")


if __name__ == "__main__":
    main()
