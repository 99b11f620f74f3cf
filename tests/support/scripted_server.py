"""A model's server that does what a test says: the thinnest one that shows a case that the real
llama-server cannot be made to show. It speaks as llama-server does."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
TEXT = ("Hello", " world", "!")
MAX_ATTEMPTS = 1000
IDLE_WITHIN_SECONDS = 40
END = {"role": "assistant", "content": ""}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}
MESSAGE = {
    "id": "chatcmpl-1",
    "type": "message",
    "role": "assistant",
    "model": "scripted",
    "content": [],
    "usage": {"cache_read_input_tokens": 4, "input_tokens": 3, "output_tokens": 0},
}

_REFUSALS: dict[str, Json] = {
    "loading": {"code": 503, "message": "Loading model", "type": "unavailable_error"},
    "busy": {"code": 429, "message": "slow down", "type": "rate_limit_error"},
    "locked": {"code": 401, "message": "no such key", "type": "authentication_error"},
    "moved": {"code": 302, "message": "over there", "type": "moved"},
    "broken": {"code": 500, "message": "Jinja Exception: no such role", "type": "server_error"},
    "overflow": {
        "code": 400,
        "message": "exceeds",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9031,
        "n_ctx": 8192,
    },
}
_ANSWERS: dict[str, Json] = {
    "/v1/embeddings": {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [3.0, 4.0]}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    },
    "/v1/audio/transcriptions": {"text": "Hello world!"},
    "/v1/rerank": {"results": [{"index": 0, "relevance_score": 0.5}]},
}


@dataclass
class Scripted:
    """What the server does, and what it was asked."""

    mode: str = "ok"
    """ok, loading, die (after some events), silent (after some events), overflow, broken, busy,
    locked, moved, garble, hang up."""
    hang_ups: int = 0
    """Hangs up on so many requests, then answers."""
    calls: bool = False
    """Answers with a call of a function instead of text."""
    ready_at: float = 0.0
    """Loads until then, by the monotonic clock."""
    pause_seconds: float = 0.0
    """Before the first event."""
    cut: int = 0
    """Sends the answer in pieces of so many bytes."""
    idle_seconds: float | None = None
    """Closes a kept connection after so long."""
    repeat: int = 1
    """Says the text so often."""
    stop: str | None = None
    plan: list[list[Json]] = field(default_factory=list)
    """Anthropic content blocks for each next answer; after them, text."""
    tokens: int = 0
    """What it counts; 0: a word is a token."""
    asked: list[tuple[str, dict[str, str], Json]] = field(default_factory=list)
    working: int = 0
    most_working: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    connections: set[socket.socket] = field(default_factory=set)
    """Open ones; a client may keep them."""

    def drop_connections(self) -> None:
        """Close every connection that a client keeps: the next request comes by a new one."""
        with self.lock:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def wait_until_idle(self) -> None:
        """Wait for the requests of an earlier test, which may still be at work here."""
        deadline = time.monotonic() + IDLE_WITHIN_SECONDS
        while self.working and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self.working, f"{self.working} requests are still at work"

    @property
    def last(self) -> Json:
        return self.asked[-1][2]

    def generations(self) -> list[Json]:
        return [body for path, _, body in self.asked if "count" not in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    script: Scripted
    works = False

    def setup(self) -> None:
        super().setup()
        with self.script.lock:
            self.script.connections.add(self.connection)

    def finish(self) -> None:
        with self.script.lock:
            self.script.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self._answer(200, {"status": "ok"})

    def do_POST(self) -> None:
        script = self.script
        data = self._read()
        is_form = "multipart" in self.headers["Content-Type"]
        body = {"form": data.decode("latin-1")} if is_form else json.loads(data)
        with script.lock:
            script.asked.append((self.path, dict(self.headers), body))
            del script.asked[:-MAX_ATTEMPTS]
            script.working += 1
            self.works = True
            script.most_working = max(script.most_working, script.working)
        try:
            self._serve(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self._rest()

    def _rest(self) -> None:
        """Work no more: before the last bytes of an answer, which the gateway takes for that."""
        with self.script.lock:
            self.script.working -= self.works
            self.works = False

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        value = b""
        while size := int(self.rfile.readline(), 16):
            value += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return value

    def _serve(self, body: Json) -> None:
        script = self.script
        refused = _REFUSALS.get(script.mode)
        if time.monotonic() < script.ready_at:
            refused = _REFUSALS["loading"]
        if refused:
            self._answer(refused["code"], {"error": refused})
        elif self.path.endswith(("count_tokens", "input_tokens")):
            tokens = script.tokens or len(json.dumps(body.get("messages")).split())
            self._answer(200, {"input_tokens": tokens})
        elif self.path in _ANSWERS:
            self._answer(200, _ANSWERS[self.path])
        else:
            self._stream()

    def _stream(self) -> None:
        script = self.script
        time.sleep(script.pause_seconds)
        with script.lock:
            hangs_up = script.mode == "hang up" or script.hang_ups > 0
            script.hang_ups = max(script.hang_ups - 1, 0)
        if hangs_up:
            self.close_connection = True
            return
        self.send_response(200)
        kind = "application/x-ndjson" if self.path == "/api/chat" else "text/event-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        events = list(_events(self.path, script))
        if script.mode in ("die", "silent"):
            events = events[: len(events) // 2]
        if script.mode == "garble":
            events = [event.replace('"delta"', '"delta": 3, "x"') for event in events]
            events = [event.replace('"content"', '"content": [3], "x"') for event in events]
        chunks = [
            b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in map(str.encode, filter(None, events))
        ]
        if script.mode not in ("die", "silent"):
            chunks[-1] += b"0\r\n\r\n"  # the gateway takes the last event for the end
        pieces = list(_pieces(b"".join(chunks), script.cut)) if script.cut else chunks
        for place, piece in enumerate(pieces, 1):
            if place == len(pieces) and script.mode != "silent":
                self._rest()
            self.wfile.write(piece)
            if script.cut:
                time.sleep(0.0005)
        if script.mode == "silent":
            self.connection.settimeout(30)
            with contextlib.suppress(TimeoutError):
                self.rfile.read(1)  # until the other end is closed

    def _answer(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self._rest()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _events(path: str, script: Scripted) -> Iterator[str]:
    if path == "/v1/messages":
        yield from _anthropic(script)
    elif path == "/v1/responses":
        yield from _responses()
    elif path == "/api/chat":
        yield from _ollama(script)
    elif path == "/infill":
        for chunk in TEXT:
            yield _sse({"content": chunk, "stop": False})
        yield _sse({"content": "", "stop": True, "tokens_evaluated": 7, "tokens_predicted": 3})
    else:
        yield from _chat(path, script)


def _anthropic(script: Scripted) -> Iterator[str]:
    yield _sse({"type": "message_start", "message": MESSAGE}, "message_start")
    if script.plan:
        yield from _planned(script.plan.pop(0))
        return
    block: Json = {"type": "text", "text": ""}
    deltas: list[Json] = [{"type": "text_delta", "text": chunk} for chunk in TEXT]
    if script.calls:
        block = {"type": "tool_use", "id": "toolu_1", "name": "add"}
        parts = ('{"a": 1', ', "b": "ü"}')
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    yield _sse(start, "content_block_start")
    for chunk in deltas:
        data = {"type": "content_block_delta", "index": 0, "delta": chunk}
        yield _sse(data, "content_block_delta")
    yield _sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
    reason = "tool_use" if script.calls else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": script.stop}
    end = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}}
    yield _sse(end, "message_delta")
    yield _sse({"type": "message_stop"}, "message_stop")


def _planned(blocks: list[Json]) -> Iterator[str]:
    """Yield the calls that a test wants to be made."""
    for index, block in enumerate(blocks):
        head = {name: value for name, value in block.items() if name != "input"}
        start = {"type": "content_block_start", "index": index, "content_block": head}
        yield _sse(start, "content_block_start")
        part = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        data = {"type": "content_block_delta", "index": index, "delta": part}
        yield _sse(data, "content_block_delta")
        yield _sse({"type": "content_block_stop", "index": index}, "content_block_stop")
    delta = {"stop_reason": "tool_use", "stop_sequence": None}
    end = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}}
    yield _sse(end, "message_delta")
    yield _sse({"type": "message_stop"}, "message_stop")


def _ollama(script: Scripted) -> Iterator[str]:
    lines: list[Json] = [{"message": {"role": "assistant", "content": chunk}} for chunk in TEXT]
    if script.calls:
        function = {"name": "add", "arguments": {"a": 1, "b": 2}}
        lines = [{"message": {"content": "", "tool_calls": [{"function": function}]}}]
    for line in lines:
        yield json.dumps({**line, "done": False}) + "\n"
    counts = {"prompt_eval_count": 7, "eval_count": 3}
    yield json.dumps({"done": True, "done_reason": "stop", "message": END, **counts}) + "\n"


def _chat(path: str, script: Scripted) -> Iterator[str]:
    texts = []
    for name in ("",) if script.calls else TEXT:
        piece: Json = {"text": name} if path == "/v1/completions" else {"delta": {"content": name}}
        texts.append(_sse({"id": "1", "choices": [{"index": 0, "finish_reason": None, **piece}]}))
    yield "".join(texts) * (script.repeat - 1)
    yield from texts
    if script.calls:
        for part in (
            {**CALL, "index": 0},
            *({"index": 0, "function": {"arguments": entry}} for entry in ('{"a": 1', ', "b": 2}')),
        ):
            yield _sse({"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]})
    reason = "tool_calls" if script.calls else "stop"
    yield _sse({"choices": [{"index": 0, "delta": {}, "finish_reason": reason, "text": ""}]})
    details = {"cached_tokens": 4}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": details}
    yield _sse({"choices": [], "usage": usage, "timings": {"prompt_ms": 1.5, "predicted_ms": 3}})
    yield _sse("[DONE]")


def _responses() -> Iterator[str]:
    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    response: Json = {"id": "resp_1", "object": "response", "model": "scripted", "output": []}
    yield _named({"type": "response.created", "response": response})
    yield _named({"type": "response.output_item.added", "item": item})
    for entry in TEXT:
        yield _named({"type": "response.output_text.delta", "item_id": "msg_1", "delta": entry})
    part = {"type": "output_text", "text": "".join(TEXT), "annotations": []}
    done = {**item, "content": [part], "status": "completed"}
    yield _named({"type": "response.output_item.done", "item": done})
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    final = {**response, "status": "completed", "output": [done], "usage": usage}
    yield _named({"type": "response.completed", "response": final})


def _named(data: Json) -> str:
    return _sse(data, data["type"])


def _sse(data: Any, name: str = "") -> str:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {name}\n" if name else "") + f"data: {text}\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """A client that is gone is none."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            traceback.print_exc()


@contextmanager
def scripted(*, port: int = 0, **script: Any) -> Iterator[Scripted]:
    """Serve a script on loopback."""
    value = Scripted(**script)
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"script": value}))
    server.RequestHandlerClass.timeout = value.idle_seconds
    value.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield value
    finally:
        server.shutdown()
        server.server_close()
