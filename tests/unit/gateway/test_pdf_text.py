"""The text of PDFs, read in a process with limits."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

import pytest

from llama_halo.gateway import pdf_text
from llama_halo.gateway.convert.documents import PdfText
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.pdf_text import PROCESS_BYTES, PdfReader
from tests.support.files import pdf_of


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pdf_with(stream: bytes, page: str = "", pages: int = 1) -> bytes:
    """Return a PDF by hand, whose pages show one compressed stream."""
    kids = " ".join(["3 0 R"] * pages)
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {pages}>>".encode(),
        f"<</Type/Page/Parent 2 0 R/Contents 4 0 R/MediaBox[0 0 9 9]{page}>>".encode(),
        b"<</Filter/FlateDecode/Length %d>>stream\n%b\nendstream" % (len(stream), stream),
    )
    data = b"%PDF-1.7\n"
    for number, content in enumerate(objects, 1):
        data += b"%d 0 obj%bendobj\n" % (number, content)
    return data + b"trailer<</Root 1 0 R/Size 5>>\nstartxref\n0\n%%EOF"


def ignore(_: int) -> None:
    """Weigh nothing."""


async def text_of(data: bytes, weigh: Callable[[int], None] = ignore) -> PdfText:
    texts = await PdfReader(enabled=True).texts([encoded(data)], weigh)
    return texts[encoded(data)]


async def test_a_pdf_has_its_text() -> None:
    assert await text_of(pdf_of("the word is quicksilver")) == PdfText("the word is quicksilver")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no PDF that can be read"),
        (b"%PDF-1.7 nothing", "no PDF that can be read"),
        (b"\x00" * 2**20, "no PDF that can be read"),
        (pdf_of(""), "its pages are pictures"),
        (pdf_with(zlib.compress(b"[" * 2**20)), ""),
        (pdf_with(zlib.compress(b"(a)Tj " * 2**24)), ""),
        (pdf_with(zlib.compress(b"x"), pages=700), "it has 700 pages, and at most 600 are read"),
    ],
    ids=["nothing", "broken", "zeros", "blank", "nested", "bomb", "pages"],
)
async def test_a_pdf_without_text_says_why(data: bytes, problem: str) -> None:
    text = await text_of(data)
    assert not text.text
    assert problem in text.problem
    assert text.problem


async def test_a_process_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_text, "MAX_SECONDS", 0.01)
    assert "took more than" in (await text_of(pdf_of("x"))).problem


async def test_a_text_is_read_once_and_weighed_while_it_is() -> None:
    weights: list[int] = []
    reader, pdf = PdfReader(enabled=True), encoded(pdf_of("x"))
    for _ in range(2):
        assert (await reader.texts([pdf, pdf], weights.append))[pdf].text == "x"
    assert weights == [PROCESS_BYTES, -PROCESS_BYTES]


async def test_too_many_requests_are_refused_before_a_process_starts() -> None:
    def refuse(_: int) -> None:
        raise Failure(429, "too many")

    with pytest.raises(Failure):
        await text_of(pdf_of("x"), refuse)


async def test_where_pdfs_are_refused_none_is_read() -> None:
    texts = await PdfReader(enabled=False).texts(["x"], ignore)
    assert "documents.pdf of the ModelRouter is Refuse" in texts["x"].problem


async def test_what_is_no_base64_or_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = PdfReader(enabled=True)
    assert (await reader.texts(["a"], ignore))["a"].problem == "it is not base64"
    monkeypatch.setattr(pdf_text, "MAX_PDF_BYTES", 3)
    assert "it has more than" in (await reader.texts(["a" * 99], ignore))["a" * 99].problem
