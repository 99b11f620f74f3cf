"""`llama-halo import FILE…`: convert another system's files to LlamaModels and a ModelRouter."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from llama_halo.api.modelrouter import ENGINES
from llama_halo.errors import CliError
from llama_halo.importers.resources import ImportOptions, resources
from llama_halo.importers.result import ImportResult, SettingOutcome
from llama_halo.importers.text import manifests, order, read, report


def run(argv: list[str]) -> int:
    """Print the resources, and a report on standard error; return 2 if a person has to do
    something."""
    arguments = _parser().parse_args(argv)
    texts = {path: _text(path) for path in arguments.files}
    result = ImportResult()
    for path in sorted(texts, key=lambda path: order(path, texts[path])):
        kind = read(result, path, texts[path], arguments.models)
        print(f"{path}: {kind}", file=sys.stderr)
    sources = dict(_pair(text) for text in arguments.source)
    options = ImportOptions(router=arguments.router, engine=arguments.engine, sources=sources)
    unknown = sources.keys() - result.models.keys() - {"*"}
    if unknown:
        names = ", ".join(result.models) or "none"
        raise CliError(f"--source {', '.join(sorted(unknown))}: the models are {names}")
    objects = resources(result, options)
    if not objects:
        raise CliError("there is no model in these files")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(manifests(result, objects))
    sys.stdout.flush()
    sys.stderr.write(report(result, every=arguments.verbose))
    return 2 if any(note.outcome is SettingOutcome.TODO for note in result.notes) else 0


def _text(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}") from error


def _pair(text: str) -> tuple[str, str]:
    name, separator, source = text.partition("=")
    if not separator:
        raise CliError(f"--source {text}: give NAME=local:PATH, NAME=hf:OWNER/REPO/FILE or URL")
    return name, source


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llama-halo import",
        description="Turn the files of llama-swap, LiteLLM, Claude Code Router, Ollama (Modelfile),"
        " llama-server command lines and model-configs.json into resources.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="of one system; - is stdin")
    parser.add_argument("--router", default="main", metavar="NAME", help="of the ModelRouter")
    parser.add_argument("--engine", default="gateway", choices=ENGINES)
    parser.add_argument(
        "--models",
        default="/models",
        metavar="FOLDER",
        help="where the files name their models; the store has them without it",
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="where a model's weights are (NAME or *): local:PATH, hf:OWNER/REPO/FILE, or a URL",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what was mapped, too")
    return parser
