"""What a client sends: its bounds, and whose fault it is when it cannot be read."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llama_halo.gateway.http import bodies
from llama_halo.gateway.http.errors import Failure

Read = Callable[[web.Request], Awaitable[Any]]


@asynccontextmanager
async def reading(read: Read) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Serve what a reader returns, or the status and message of its failure."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response({"value": repr(await read(request))})
        except Failure as failure:
            return web.json_response({"message": failure.message}, status=failure.status)

    app = web.Application(client_max_size=0)
    app.router.add_post("/", handle)
    server = TestServer(app)
    await server.start_server(auto_decompress=False)
    try:
        async with aiohttp.ClientSession() as client:
            yield client, str(server.make_url("/"))
    finally:
        await server.close()


async def post(read: Read, data: Any, **options: Any) -> tuple[int, str]:
    """Return the status, and the value or the message."""
    async with reading(read) as (client, url), client.post(url, data=data, **options) as answer:
        body = await answer.json()
        return answer.status, body.get("value") or body["message"]


async def count_bytes(request: web.Request) -> int:
    counts: list[int] = []
    data = await bodies.read(request, counts.append, bodies.Turns())
    assert sum(counts) == bodies.NARROW_WEIGHT * len(data)
    return len(data)


async def whole_object(request: web.Request) -> object:
    return bodies.parse_json(await bodies.read(request, lambda _: None, bodies.Turns()))


async def form_names(request: web.Request) -> list[tuple[str, int, str | None]]:
    form = await bodies.read_form(request, lambda _: None)
    return [(part.name, len(part.data), part.filename) for part in form]


async def test_a_body_is_counted_as_it_comes_and_may_be_compressed() -> None:
    assert await post(count_bytes, b"x" * 100_000) == (200, "100000")
    packed = gzip.compress(b"x" * 100_000)
    headers = {"Content-Encoding": "gzip"}
    assert await post(count_bytes, packed, headers=headers) == (200, "100000")


async def test_a_body_beyond_the_limit_is_refused_whatever_its_compression() -> None:
    too_much = b"x" * (bodies.MAX_BODY_BYTES + 1)
    status, message = await post(count_bytes, io.BytesIO(too_much))
    assert (status, message) == (413, "the request body exceeds 32 MiB")
    headers = {"Content-Encoding": "gzip"}
    status, _ = await post(count_bytes, gzip.compress(too_much), headers=headers)
    assert status == 413


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_SECONDS", 0)
    ended = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"model":'
        await ended.wait()

    async with reading(count_bytes) as (client, url), client.post(url, data=slowly()) as answer:
        assert answer.status == 408
        assert (await answer.json())["message"].startswith("the request body did not arrive within")
        ended.set()


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"{}", 200, "{}"),
        (b"[]", 400, "must be a JSON object"),
        (b'"text"', 400, "must be a JSON object"),
        (b"", 400, "is not JSON"),
        (b"{", 400, "is not JSON"),
        (b"\xff", 400, "is not JSON"),
        (b"[" * 20_000, 400, "is not JSON"),
    ],
    ids=["an object", "a list", "a text", "nothing", "half", "no UTF-8", "too deep"],
)
async def test_an_object_is_read_or_the_client_told_why(
    data: bytes, status: int, says: str
) -> None:
    answered, message = await post(bodies.read_object, data)
    assert answered == status
    assert says in message


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"[" * 200_000, 400, "is not JSON"),
        (b'{"a":[' + b"1," * 300_001 + b"1]}", 413, "more than 300000 values"),
    ],
    ids=["too deep", "too many"],
)
async def test_a_large_body_is_parsed_or_the_client_told_why(
    data: bytes, status: int, says: str
) -> None:
    answered, message = await post(whole_object, data)
    assert answered == status
    assert says in message


async def test_a_form_is_read_with_its_files() -> None:
    form = aiohttp.FormData()
    form.add_field("model", "whisper")
    form.add_field("file", b"RIFF" * 1000, filename="a.wav", content_type="audio/wav")
    status, value = await post(form_names, form)
    assert (status, value) == (200, "[('model', 7, None), ('file', 4000, 'a.wav')]")


@pytest.mark.parametrize(
    ("content_type", "data", "status", "says"),
    [
        ("application/json", b"{}", 400, r"must be a form"),
        ("multipart/form-data", b"--b\r\n", 400, r"is not a form"),
        ("multipart/form-data; boundary=b", b"no boundary", 400, r"is not a form"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            400,
            r"each part of the form needs a name",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\nx\r\n' * 65 + b"--b--\r\n",
            413,
            r"exceeds 32 MiB",
        ),
    ],
    ids=["JSON", "no boundary named", "another boundary", "no name", "too many parts"],
)
async def test_what_is_no_form_is_the_clients_fault(
    content_type: str, data: bytes, status: int, says: str
) -> None:
    answered, message = await post(form_names, data, headers={"Content-Type": content_type})
    assert answered == status, message
    assert re.search(says, message)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_body_that_is_none_is_the_clients_mistake(encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    status, message = await post(count_bytes, b"\x07no such data" * 9, headers=headers)
    assert status == 400, message
    assert message.startswith("the request body cannot be read")


async def test_a_compressed_body_that_is_cut_off_is_the_clients_mistake() -> None:
    headers = {"Content-Encoding": "gzip"}
    status, message = await post(count_bytes, gzip.compress(b"x" * 100)[:-9], headers=headers)
    assert (status, message) == (
        400,
        "the request body cannot be read: its compressed data is cut off",
    )


async def test_an_unknown_encoding_is_refused_by_name() -> None:
    status, message = await post(count_bytes, b"{}", headers={"Content-Encoding": "gzip, br"})
    assert (status, message) == (
        415,
        "Content-Encoding 'gzip, br': use one of gzip, deflate, br and zstd",
    )


async def test_a_body_that_only_names_a_model_is_small() -> None:
    status, message = await post(bodies.read_object, b'{"model": "' + b"x" * 2**16 + b'"}')
    assert (status, message) == (413, "the request body exceeds 64 KiB")


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("x" * 1000, 3),
        ("äöü" * 200, 3),
        ('"\\u00e4"' * 50, 3),
        ("x" * 99_999 + "€", 6),
        ('"\\u20ac"' * 50, 6),
        ("x" * 99_999 + "€" + "x" * 99_999 + "🙂", 10),
        ('"\\ud83d\\ude42"' * 50, 10),
    ],
    ids=[
        "ASCII",
        "Latin-1",
        "escaped",
        "one euro sign",
        "escaped euro",
        "one emoji",
        "escaped emoji",
    ],
)
async def test_a_body_weighs_what_it_takes_in_memory(text: str, weight: int) -> None:
    counts: list[int] = []

    async def weigh(request: web.Request) -> int:
        return len(await bodies.read(request, counts.append, bodies.Turns()))

    status, value = await post(weigh, text.encode())
    assert (status, value) == (200, str(len(text.encode())))
    assert sum(counts) == weight * len(text.encode())


async def test_a_body_in_utf_16_is_no_json() -> None:
    status, message = await post(whole_object, '{"a": "🙂"}'.encode("utf-16-le"))
    assert status == 400
    assert "not JSON" in message
