"""Reads the text of PDFs for models whose server takes none, in a process with limits.

A PDF is a program of somebody else: the process that reads it has little memory and time, no
environment, and only the file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256

from llama_halo.gateway.convert.documents import PdfText, PdfTexts

MAX_PDF_BYTES = 32 * 2**20
MAX_SECONDS = 60
PROCESS_BYTES = 160 * 2**20
"""What a process that reads a PDF weighs against the memory of all requests."""
MAX_CACHED_CHARACTERS = 8 * 2**20
"""Of texts that are kept: a client sends a document again in each turn."""
ENTRY_CHARACTERS = 1024
"""What an entry weighs besides its text."""
_TOO_LONG = f"reading it took more than {MAX_SECONDS} s"
_NO_ANSWER = "reading it took too much memory or time"
_MODULE = "llama_halo.gateway.pdf_process"
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")


class PdfReader:
    """Reads PDFs one after another, and keeps the texts of the last ones."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._turn = asyncio.Lock()
        self._texts: OrderedDict[bytes, PdfText] = OrderedDict()
        """By digest of the file."""
        self._characters = 0

    async def texts(self, pdfs: Sequence[str], weigh: Callable[[int], None]) -> PdfTexts:
        """Return the text of each PDF, by its base64; `weigh` counts bytes of memory, and raises
        `Failure` when there are too many."""
        if not self._enabled:
            refused = PdfText(problem="documents.pdf of the ModelRouter is Refuse")
            return dict.fromkeys(pdfs, refused)
        return {pdf: await self._text(pdf, weigh) for pdf in dict.fromkeys(pdfs)}

    async def _text(self, pdf: str, weigh: Callable[[int], None]) -> PdfText:
        if len(pdf) > MAX_PDF_BYTES * 4 // 3 + 4:
            return PdfText(problem=f"it has more than {MAX_PDF_BYTES // 2**20} MiB")
        try:
            data = await asyncio.to_thread(base64.b64decode, pdf)
        except ValueError:
            return PdfText(problem="it is not base64")
        digest = (await asyncio.to_thread(sha256, data)).digest()
        async with self._turn:
            cached = self._texts.get(digest)
            if cached is not None:
                self._texts.move_to_end(digest)
                return cached
            weigh(PROCESS_BYTES)
            try:
                text = await _read(data)
            finally:
                weigh(-PROCESS_BYTES)
            if text.problem not in (_NO_ANSWER, _TOO_LONG):  # another time it may be read
                self._keep(digest, text)
            return text

    def _keep(self, digest: bytes, text: PdfText) -> None:
        self._texts[digest] = text
        self._characters += _weight(text)
        while self._characters > MAX_CACHED_CHARACTERS:
            _, oldest = self._texts.popitem(last=False)
            self._characters -= _weight(oldest)


def _weight(text: PdfText) -> int:
    return len(text.text) + ENTRY_CHARACTERS


async def _read(data: bytes) -> PdfText:
    """Return what the process says of a PDF."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    try:
        async with asyncio.timeout(MAX_SECONDS):
            output, _ = await process.communicate(data)
    except TimeoutError:
        return PdfText(problem=_TOO_LONG)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        answer = json.loads(output)
        return PdfText(str(answer["text"]), str(answer["problem"]))
    except (ValueError, KeyError, TypeError):
        return PdfText(problem=_NO_ANSWER)
