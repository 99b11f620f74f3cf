"""Reads a PDF from the standard input, and writes its text as JSON: `{"text": …, "problem": …}`.

`pdf_text` runs it as a process of its own.
"""

from __future__ import annotations

import io
import json
import logging
import resource
import sys

from pypdf import PdfReader

MEMORY_BYTES = 384 * 2**20
"""Address space, of which an idle interpreter has about 60 MiB."""
CPU_SECONDS = 30
MAX_PAGES = 600
MAX_CHARACTERS = 2 * 2**20


def main() -> None:
    """Write the text, or what is wrong with the file."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    logging.disable()
    text, problem = "", ""
    try:
        text, problem = read(sys.stdin.buffer.read())
    except MemoryError:
        problem = "reading it takes too much memory"
    except RecursionError:
        problem = "it is nested too deeply"
    except Exception as error:
        problem = f"it is no PDF that can be read ({type(error).__name__})"
    sys.stdout.write(json.dumps({"text": text, "problem": problem}))


def read(data: bytes) -> tuple[str, str]:
    """Return a PDF's text, and what is wrong with it; one of the two is empty."""
    document = PdfReader(io.BytesIO(data))
    if document.is_encrypted and not document.decrypt(""):
        return "", "it is encrypted"
    count = len(document.pages)
    if count > MAX_PAGES:
        return "", f"it has {count} pages, and at most {MAX_PAGES} are read"
    pages, size = [], 0
    for number, page in enumerate(document.pages, 1):
        text = page.extract_text().strip()
        size += len(text)
        if size > MAX_CHARACTERS:
            return "", f"it has more than {MAX_CHARACTERS} characters of text"
        pages.append(f"[page {number}]\n{text}" if count > 1 else text)
    if not size:
        return "", "it has no text: its pages are pictures"
    return "\n\n".join(pages), ""


if __name__ == "__main__":
    main()
