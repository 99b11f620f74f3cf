"""Reads Ollama's Modelfile."""

from __future__ import annotations

import re
from pathlib import PurePath

from llama_halo.importers.command_line import ALL_LAYERS, CommandLine, local_path
from llama_halo.importers.documents import whole_number
from llama_halo.importers.result import ImportedModel, ImportResult, Note, SettingOutcome

_NUMBERS = {"num_ctx": "contextSize", "num_batch": "batchSize", "num_thread": "threads"}
_SAMPLING = {
    "temperature": "--temp",
    "top_p": "--top-p",
    "top_k": "--top-k",
    "min_p": "--min-p",
    "repeat_penalty": "--repeat-penalty",
    "repeat_last_n": "--repeat-last-n",
    "presence_penalty": "--presence-penalty",
    "frequency_penalty": "--frequency-penalty",
    "seed": "--seed",
    "num_predict": "--n-predict",
}
_PASSED_OVER = {
    "TEMPLATE": (
        "the template in the model's file is used; for another one, in Jinja, name a ConfigMap in"
        " spec.chatTemplate"
    ),
    "SYSTEM": "clients bring their own system prompt",
    "LICENSE": "of the file",
    "MESSAGE": "clients bring their own conversation",
    "REQUIRES": "of Ollama itself",
    "RENDERER": "the template in the model's file is used",
    "PARSER": "llama-server reads answers by the template",
}
_KNOWN = ("FROM", "PARAMETER", "ADAPTER", *_PASSED_OVER)
_INSTRUCTION = re.compile(r'^([A-Za-z]+)[ \t]+("""(?:.|\n)*?"""|.*)$', re.MULTILINE)


def is_config(text: str) -> bool:
    """Tell whether a text is a Modelfile: it starts with FROM, and all instructions are known."""
    keywords = [word.upper() for word, _ in _instructions(text)]
    return bool(keywords) and keywords[0] == "FROM" and all(word in _KNOWN for word in keywords)


def read(result: ImportResult, file: str, text: str, root: str) -> None:
    """Read a Modelfile; the model has the name of the file, else that of its base."""
    instructions = _instructions(text)
    base = next(value for word, value in instructions if word == "FROM")
    model = result.define(_name(file, base), file)
    for word, value in instructions:
        _instruction(result, model, f"{file}: {word}", word, value.strip('"'), root)


def _instructions(text: str) -> list[tuple[str, str]]:
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [(word.upper(), value.strip()) for word, value in _INSTRUCTION.findall(plain)]


def _name(file: str, base: str) -> str:
    """Return `coder` for `coder.modelfile` and `Modelfile.coder`; else the base's last part."""
    own = re.sub(r"(?i)^modelfile[.-]?|[.-]?modelfile$|\.(txt|mf)$", "", PurePath(file).name)
    last = base.replace("\\", "/").rpartition("/")[2].partition(":")[0].removesuffix(".gguf")
    return (own or last or "model").lower()


def _instruction(
    result: ImportResult, model: ImportedModel, where: str, word: str, value: str, root: str
) -> None:
    def note(outcome: SettingOutcome, text: str) -> None:
        result.notes.append(Note(where, outcome, text, model.name))

    if word == "FROM" and value.endswith(".gguf"):
        model.spec["source"] = {"local": {"path": local_path(value, root)}}
        note(SettingOutcome.MAPPED, f"spec.source: {value}")
    elif word == "FROM" and value.startswith(("hf.co/", "huggingface.co/")):
        CommandLine(result, model, where, root).read(["-hf", value.partition("/")[2]], [])
    elif word == "FROM" and "/blobs/" in value:
        note(
            SettingOutcome.TODO,
            f"{value} is a GGUF: copy it into the store, and name it in spec.source",
        )
    elif word == "FROM":
        note(SettingOutcome.TODO, f"{value} is of Ollama's own library: name a GGUF in spec.source")
    elif word == "ADAPTER":
        CommandLine(result, model, where, root).read(["--lora", value], [])
    elif word == "PARAMETER":
        name, _, value_text = value.partition(" ")
        _parameter(result, model, where, name, value_text.strip().strip('"'))
    else:
        note(SettingOutcome.DROPPED, _PASSED_OVER[word])


def _parameter(
    result: ImportResult, model: ImportedModel, where: str, name: str, value: str
) -> None:
    outcome, text = SettingOutcome.DROPPED, f"{name} {value}: llama-server has no such default"
    number = whole_number(value)
    if name in _NUMBERS and number is not None and number >= 0:
        model.spec[_NUMBERS[name]] = number
        outcome, text = SettingOutcome.MAPPED, f"spec.{_NUMBERS[name]}: {value}"
    elif name == "num_gpu" and value == "0":
        model.spec["backend"] = "CPU"
        outcome, text = SettingOutcome.MAPPED, "spec.backend: CPU"
    elif name == "num_gpu" and number is not None and 0 <= number < ALL_LAYERS:
        model.spec["gpuLayers"] = number
        outcome, text = SettingOutcome.MAPPED, f"spec.gpuLayers: {value}"
    elif name == "num_gpu":
        outcome, text = (
            SettingOutcome.MAPPED,
            "all layers are on the GPU when spec.gpuLayers is absent",
        )
    elif name in _SAMPLING:
        model.spec.setdefault("extraArgs", []).extend([_SAMPLING[name], value])
        outcome = SettingOutcome.MAPPED
        text = f"spec.extraArgs: {_SAMPLING[name]} {value}, where a client says nothing"
    result.notes.append(Note(where, outcome, text, model.name))
