"""A server that answers every request with what a test gives it, byte by byte."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass
class Reply:
    """One answer."""

    data: bytes
    content_type: str = "text/event-stream"
    status: int = 200


def json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), "application/json", status)


def sse(*values: Any, done: bool = True) -> bytes:
    """Return a stream of events; Anthropic's carry their names."""
    events = []
    for value in values:
        name = value.get("type") if isinstance(value, dict) else None
        head = f"event: {name}\n" if isinstance(name, str) else ""
        events.append(f"{head}data: {json.dumps(value)}\n\n")
    return "".join([*events, *(["data: [DONE]\n\n"] if done else [])]).encode()


def chat_chunk(delta: Json, reason: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}


def chat_answer(*deltas: Json, reason: str = "stop") -> Reply:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    last = {**chat_chunk({}, reason), "usage": usage}
    return Reply(sse(*map(chat_chunk, deltas), last))


def message_answer(*events: Json, reason: str = "end_turn", **others: Any) -> Reply:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "canned",
        "content": [],
        "usage": {"input_tokens": 7, "output_tokens": 0},
    }
    delta = {"stop_reason": reason, "stop_sequence": None}
    ending = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}, **others}
    start, stop = {"type": "message_start", "message": message}, {"type": "message_stop"}
    return Reply(sse(start, *events, ending, stop, done=False))


def block(index: int, content: Json, *deltas: Json) -> list[Json]:
    """Return the events of one block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_message(text: str = "4") -> Reply:
    return message_answer(
        *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": text})
    )


def response_answer(*items: Json) -> Reply:
    """Return llama-server's events for items of the Responses API."""
    response = {"id": "resp_1", "object": "response", "model": "canned"}
    events: list[Json] = [{"type": "response.created", "response": response}]
    for item in items:
        begun = {**item, **({"arguments": ""} if "arguments" in item else {"content": []})}
        events.append({"type": "response.output_item.added", "item": begun})
        if "arguments" in item:
            head = {"type": "response.function_call_arguments.delta", "item_id": item["id"]}
            events.append({**head, "delta": item["arguments"]})
        events.append({"type": "response.output_item.done", "item": item})
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    ended = {**response, "status": "completed", "output": list(items), "usage": usage}
    events.append({"type": "response.completed", "response": ended})
    return Reply(sse(*events, done=False))


@dataclass
class Canned:
    """What the server answers, and what it was asked."""

    url: str = ""
    reply: Reply | list[Reply] | Callable[[str, Json], Reply] = field(default_factory=chat_answer)
    """The last of a list stays; a function gets the path and the body."""
    asked: list[tuple[str, dict[str, str], Json]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_reply(self) -> Reply:
        with self.lock:
            if isinstance(self.reply, Reply):
                return self.reply
            if not isinstance(self.reply, list):
                return self.reply(self.asked[-1][0], self.last)
            return self.reply.pop(0) if len(self.reply) > 1 else self.reply[0]

    @property
    def last(self) -> Json:
        return self.asked[-1][2]


@contextmanager
def canned() -> Iterator[Canned]:
    """Run the server until the block ends."""
    script = Canned()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(json_reply({"status": "ok"}))

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if "count" in self.path or "input_tokens" in self.path:
                self._send(json_reply({"input_tokens": 9}))
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append((self.path, headers, json.loads(data)))
            self._send(script.next_reply())

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.data)))
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            self.wfile.write(reply.data)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
