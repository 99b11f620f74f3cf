"""Small formats: Ollama's Modelfile, scripts with llama-server in them, and the files of a
machine with a port for each model (`model-configs.json`, a list of name:port:role)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from llama_halo.importers.command_line import ALL_LAYERS, SERVERS, CommandLine, local_path, split
from llama_halo.importers.found import Found, FoundModel, Note, Settings, Verdict

_STARTED = re.compile(r"""["']([A-Za-z0-9][-A-Za-z0-9._]*):(\d{2,5}):([A-Za-z]+)["']""")
_ROLES = {
    "background": "background",
    "default": "default",
    "coding": "default",
    "reasoning": "think",
    "think": "think",
    "longcontext": "longContext",
    "websearch": "webSearch",
    "image": "image",
    "vision": "image",
}
_PARAMETERS = {"num_ctx": "contextSize", "num_batch": "batchSize", "num_thread": "threads"}
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
_INSTRUCTION = re.compile(
    r'^(FROM|PARAMETER|TEMPLATE|SYSTEM|ADAPTER|LICENSE|MESSAGE|REQUIRES)\s+("""(?:.|\n)*?"""|.*)$',
    re.MULTILINE | re.IGNORECASE,
)
_PASSED_OVER = {
    "TEMPLATE": "the template in the model's file is used",
    "SYSTEM": "clients bring their own system prompt",
    "LICENSE": "of the file",
    "MESSAGE": "clients bring their own conversation",
    "REQUIRES": "of Ollama itself",
}


def is_configs(document: Any) -> bool:
    """Tell whether a document has settings by a model's name: `{"name": {"ctx_size": 4096}}`."""
    known = {"ctx_size", "gpu_layers", "batch_size"}
    return (
        isinstance(document, Mapping)
        and bool(document)
        and all(isinstance(each, Mapping) for each in document.values())
        and any(known & set(each) for each in document.values())
    )


def read_configs(found: Found, file: str, document: Mapping[str, Any]) -> None:
    """Read settings by a model's name."""
    for name, values in document.items():
        model = found.model(str(name))
        settings = Settings(found, f"{file}: {name}", values, model.name)
        context = settings.take("ctx_size", "spec.contextSize")
        if context:
            model.spec["contextSize"] = int(context)
        batch = settings.take("batch_size", "spec.batchSize")
        if batch:
            model.spec["batchSize"] = int(batch)
        threads = settings.take("threads", "spec.threads")
        if threads:
            model.spec["threads"] = int(threads)
        _layers(model, settings)
        notes = settings.take("notes", "spec.description")
        if notes:
            model.spec["description"] = str(notes)[:1024]
        settings.end()


def _layers(model: FoundModel, settings: Settings) -> None:
    layers = settings.take("gpu_layers")
    if layers is None:
        return
    if int(layers) == 0:
        model.spec["backend"] = "CPU"
        settings.note("gpu_layers", Verdict.MAPPED, "spec.backend: CPU")
    elif 0 < int(layers) < ALL_LAYERS:
        model.spec["gpuLayers"] = int(layers)
        text = "spec.gpuLayers; without it all are on the GPU, and what fits is computed"
        settings.note("gpu_layers", Verdict.MAPPED, text)
    else:
        settings.note("gpu_layers", Verdict.MAPPED, "all layers: spec.gpuLayers is absent")


def is_started(text: str) -> bool:
    """Tell whether a text lists models as name:port:role."""
    return bool(_STARTED.search(text))


def read_started(found: Found, file: str, text: str) -> None:
    """Read which model is at which port, and what it is for."""
    for name, port, role in _STARTED.findall(text):
        model = found.model(name)
        model.port = int(port)
        route = _ROLES.get(role.lower())
        where = f"{file}: {name}:{port}:{role}"
        if route is None:
            found.notes.append(Note(where, Verdict.DROPPED, f"no route is like {role}", name))
            continue
        found.routes.setdefault(route, {"model": name} if route == "longContext" else name)
        found.notes.append(Note(where, Verdict.MAPPED, f"routes.{route}: {name}", name))


def is_commands(text: str) -> bool:
    """Tell whether a text has llama-server's command lines in it."""
    return any(
        PurePosixPath(word.strip("\"'")).name in SERVERS for word in re.findall(r"\S+", text)
    )


def read_commands(found: Found, file: str, text: str, root: str) -> None:
    """Read each command line of a text, continued lines included."""
    joined = re.sub(r"\\\n", " ", text)
    for number, line in enumerate(joined.splitlines(), 1):
        if line.lstrip().startswith("#") or not is_commands(line):
            continue
        try:
            variables, words, program = split(line)
        except ValueError as error:
            found.notes.append(Note(f"{file}:{number}", Verdict.TODO, f"cannot be read: {error}"))
            continue
        read = FoundModel("")
        reader = Found()
        CommandLine(reader, read, f"{file}:{number}", root).read(words, variables)
        name = _name_of(read, f"model-{number}")
        model = found.model(name)
        model.spec |= read.spec
        model.port = read.port
        model.aliases += [each for each in read.aliases if each != name]
        if program == "whisper-server":
            model.spec["mode"] = "Transcription"
        found.notes += [Note(each.where, each.verdict, each.text, name) for each in reader.notes]


def _name_of(read: FoundModel, otherwise: str) -> str:
    """Return what a model is called by: its alias, or its file."""
    if read.aliases:
        return read.aliases[0]
    source = read.spec.get("source", {})
    path = (
        source.get("local", {}).get("path")
        or source.get("huggingFace", {}).get("file")
        or source.get("http", {}).get("url")
    )
    if not path:
        return otherwise
    return re.sub(r"-\d{5}-of-\d{5}$", "", PurePosixPath(path).stem).lower()


def is_modelfile(text: str) -> bool:
    """Tell whether a text is a Modelfile."""
    return bool(re.search(r"^FROM\s+\S+", text, re.MULTILINE | re.IGNORECASE))


def read_modelfile(found: Found, file: str, text: str, root: str) -> None:
    """Read a Modelfile; the model is called like the file, or like what it is made from."""
    instructions = [
        (word.upper(), value.strip()) for word, value in _INSTRUCTION.findall(_uncommented(text))
    ]
    base = next((value for word, value in instructions if word == "FROM"), "")
    stem = PurePosixPath(file).stem
    own = stem.lower() if stem.lower() != "modelfile" else PurePosixPath(base).stem.lower()
    model = found.model(own.partition(":")[0])
    for word, value in instructions:
        _instruction(found, model, f"{file}: {word}", word, value.strip('"'), root)


def _uncommented(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _instruction(
    found: Found, model: FoundModel, where: str, word: str, value: str, root: str
) -> None:
    def note(verdict: Verdict, text: str) -> None:
        found.notes.append(Note(where, verdict, text, model.name))

    if word == "FROM" and value.endswith(".gguf"):
        model.spec["source"] = {"local": {"path": local_path(value, root)}}
        note(Verdict.MAPPED, f"spec.source: {value}")
    elif word == "FROM" and value.startswith(("hf.co/", "huggingface.co/")):
        CommandLine(found, model, where, root).read(["-hf", value.partition("/")[2]], [])
    elif word == "FROM":
        note(Verdict.TODO, f"{value} is of Ollama's own library: name a GGUF in spec.source")
    elif word == "ADAPTER":
        CommandLine(found, model, where, root).read(["--lora", value], [])
    elif word == "PARAMETER":
        name, _, given = value.partition(" ")
        _parameter(model, note, name, given.strip().strip('"'))
    else:
        note(Verdict.DROPPED, _PASSED_OVER[word])


def _parameter(model: FoundModel, note: Any, name: str, value: str) -> None:
    if name in _PARAMETERS and value.isdecimal():
        model.spec[_PARAMETERS[name]] = int(value)
        note(Verdict.MAPPED, f"spec.{_PARAMETERS[name]}: {value}")
    elif name == "num_gpu" and value == "0":
        model.spec["backend"] = "CPU"
        note(Verdict.MAPPED, "spec.backend: CPU")
    elif name == "num_gpu":
        if value.isdecimal() and int(value) < ALL_LAYERS:
            model.spec["gpuLayers"] = int(value)
        note(Verdict.MAPPED, f"spec.gpuLayers: {value}")
    elif name in _SAMPLING:
        model.spec.setdefault("extraArgs", []).extend([_SAMPLING[name], value])
        note(
            Verdict.MAPPED,
            f"spec.extraArgs: {_SAMPLING[name]} {value}, where a client says nothing",
        )
    else:
        note(Verdict.DROPPED, f"{name} {value}: llama-server has no such default")
