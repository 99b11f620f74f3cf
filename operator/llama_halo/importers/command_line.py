"""Converts llama-server's command line and environment to the fields of a LlamaModel."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from llama_halo.api.server_flags import OWNED_ENV, OWNED_FLAGS, REMOVED_FLAGS
from llama_halo.importers.documents import whole_number
from llama_halo.importers.result import ImportedModel, ImportResult, Note, SettingOutcome
from llama_halo.importers.secrets import is_secret, without_secrets
from llama_halo.importers.shell import WHISPER, Command

ALL_LAYERS = 99
"""This many layers, or more, means all of them in any of the formats."""

# llama.cpp's spellings of the flags with a value, and the field or the handling of each.
_NUMBERS = {
    **dict.fromkeys(("-c", "--ctx-size"), "contextSize"),
    **dict.fromkeys(("-np", "--parallel"), "parallel"),
    **dict.fromkeys(("-b", "--batch-size"), "batchSize"),
    **dict.fromkeys(("-ub", "--ubatch-size"), "microBatchSize"),
    **dict.fromkeys(("-cram", "--cache-ram"), "promptCacheMiB"),
    **dict.fromkeys(("-t", "--threads"), "threads"),
    "--reasoning-budget": "reasoning.budgetTokens",
}
_TEXTS = {
    **dict.fromkeys(("-ctk", "--cache-type-k"), "cacheType.k"),
    **dict.fromkeys(("-ctv", "--cache-type-v"), "cacheType.v"),
}
_FILES = {
    **dict.fromkeys(("-m", "--model"), "source"),
    **dict.fromkeys(("-mm", "--mmproj"), "projector.source"),
    **dict.fromkeys(("-md", "--model-draft", "--spec-draft-model"), "draft.model.source"),
}
_URLS = {
    **dict.fromkeys(("-mu", "--model-url"), "source"),
    **dict.fromkeys(("-mmu", "--mmproj-url"), "projector.source"),
}
_SPECIAL = {
    **dict.fromkeys(("-hf", "-hfr", "--hf-repo"), "repo_named"),
    **dict.fromkeys(("-hff", "--hf-file"), "file_named"),
    **dict.fromkeys(("--spec-draft-n-max", "--draft-max", "--draft", "--draft-n"), "draft_tokens"),
    "--lora": "adapter",
    "--lora-scaled": "adapter",
    "--spec-type": "drafting",
    **dict.fromkeys(("-a", "--alias"), "alias"),
    **dict.fromkeys(("-ngl", "--gpu-layers", "--n-gpu-layers"), "layers"),
    **dict.fromkeys(("-dev", "--device"), "device"),
    "--reasoning-format": "reasoning_format",
    "--port": "port",
}
_DROPPED = {
    "--host": "the Service is the address",
    "-fit": "the operator computes what fits",
    "--fit": "the operator computes what fits",
    "--log-file": "kubectl logs, or llama-halo logs, shows it",
    "--slot-save-path": "a pod has no place for it",
    "--path": "the server shows no pages here",
}
_ASKED = {
    **dict.fromkeys(
        ("--api-key", "--api-key-file"),
        "keys are the router's: put them into a Secret and name it in spec.auth of the ModelRouter",
    ),
    "--chat-template-file": (
        "put the file into a ConfigMap (kubectl create configmap NAME --from-file=chat.jinja=FILE)"
        " and name it in spec.chatTemplate"
    ),
    **dict.fromkeys(
        ("-hft", "--hf-token"),
        "put the token into a Secret and name it in source.huggingFace.tokenSecretRef",
    ),
}
_SWITCHES = {
    **dict.fromkeys(("--embedding", "--embeddings"), ("mode", "Embedding")),
    **dict.fromkeys(("--rerank", "--reranking"), ("mode", "Rerank")),
}
_NEEDLESS = {
    **dict.fromkeys(REMOVED_FLAGS, "the operator sets how files are loaded"),
    **dict.fromkeys(
        ("-kvu", "--kv-unified", "-no-kvu", "--no-kv-unified"),
        "requests at once always share contextSize",
    ),
    **dict.fromkeys(("--metrics", "--no-webui"), "the operator sets it"),
    **dict.fromkeys(("--jinja", "--slots"), "llama-server does so by itself"),
}
_BACKENDS = {"vulkan": "Vulkan", "rocm": "ROCm", "hip": "ROCm", "none": "CPU", "cpu": "CPU"}
_VARIABLES = {
    "LLAMA_ARG_MODEL": "-m",
    "LLAMA_ARG_MODEL_URL": "-mu",
    "LLAMA_ARG_HF_REPO": "-hf",
    "LLAMA_ARG_HF_FILE": "-hff",
    "LLAMA_ARG_CTX_SIZE": "-c",
    "LLAMA_ARG_N_PARALLEL": "-np",
    "LLAMA_ARG_N_GPU_LAYERS": "-ngl",
    "LLAMA_ARG_DEVICE": "-dev",
    "LLAMA_ARG_BATCH": "-b",
    "LLAMA_ARG_UBATCH": "-ub",
    "LLAMA_ARG_CACHE_TYPE_K": "-ctk",
    "LLAMA_ARG_CACHE_TYPE_V": "-ctv",
    "LLAMA_ARG_FLASH_ATTN": "-fa",
    "LLAMA_ARG_THREADS": "-t",
    "LLAMA_ARG_HOST": "--host",
    "LLAMA_ARG_PORT": "--port",
    "LLAMA_ARG_ALIAS": "-a",
    "LLAMA_ARG_MMPROJ": "-mm",
    "LLAMA_API_KEY": "--api-key",
}
_HIDES_THE_GPU = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES")
_VALUED = (*_NUMBERS, *_TEXTS, *_FILES, *_URLS, *_SPECIAL, *_DROPPED, *_ASKED)
_WHISPERS = {
    "--inference-path": "the router asks where OpenAI's clients do",
    "--request-path": "the router asks where OpenAI's clients do",
    "--tmp-dir": "a pod has a folder for that",
}
"""Flags with a value that only whisper-server has, and that the operator sets."""


def local_path(path: str, root: str) -> str:
    """Return the path of a file below the store, without the folder of all models."""
    text = re.sub(r"^(~|\$\{?HOME\}?)(?=/)", "", path)
    for folder in (root.rstrip("/"), "/models", "/app/models"):
        if folder and text.startswith(f"{folder}/"):
            return text.removeprefix(f"{folder}/")
    below = text.rpartition("/models/")[2]
    return "/".join(part for part in below.split("/") if part not in ("", ".", ".."))


class CommandLine:
    """Reads one command line into one model."""

    def __init__(self, result: ImportResult, model: ImportedModel, where: str, root: str) -> None:
        self._result, self._model, self._where, self._root = result, model, where, root
        self._repo = self._file = ""
        self._extra: list[str] = []
        self._is_transcription = self._uses_mtp = self._gpu_hidden = False
        self._drafted = ""

    def start(self, command: Command, more_variables: list[str]) -> None:
        """Read a command that starts a server."""
        if not command.program:
            first = command.argv[0] if command.argv else "nothing"
            text = f"it starts {first}, not llama-server: write out the command that it runs"
            self._note("", SettingOutcome.TODO, text)
            return
        if command.before:
            self._note("", SettingOutcome.DROPPED, f"before the server: {' '.join(command.before)}")
        self._is_transcription = command.program == WHISPER
        if self._is_transcription:
            self._model.spec["mode"] = "Transcription"
        self.read(command.argv, [*more_variables, *command.variables])

    def read(self, argv: list[str], variables: list[str]) -> None:
        """Read the environment, and then the arguments, which take precedence."""
        for variable in variables:
            self._variable(*variable.partition("=")[::2])
        rest = _spelled(argv)
        while rest:
            self._flag(rest)
        if self._repo:
            self._hub()
        if self._uses_mtp or self._drafted:
            self._draft()
        if self._extra:
            self._model.spec["extraArgs"] = self._extra

    def _flag(self, rest: list[str]) -> None:
        flag = rest.pop(0)
        if self._is_transcription and flag in ("-ng", "--no-gpu"):
            self._set(flag, "backend", "CPU")
        elif self._is_transcription and flag in _WHISPERS and rest:
            rest.pop(0)
            self._note(flag, SettingOutcome.DROPPED, _WHISPERS[flag])
        elif flag in ("-fa", "--flash-attn"):
            self._flash_attention(flag, rest)
        elif flag in _SWITCHES:
            self._set(flag, *_SWITCHES[flag])
        elif flag in _NEEDLESS:
            self._note(flag, SettingOutcome.DROPPED, _NEEDLESS[flag])
        elif flag in _VALUED and rest:
            self._valued(flag, rest.pop(0), rest)
        else:
            self._other(flag, rest)

    def _other(self, flag: str, rest: list[str]) -> None:
        """Add an unknown flag to `extraArgs`, unless the operator sets it or it needs a person."""
        option = [flag, *([rest.pop(0)] if rest and not _is_flag(rest[0]) else [])]
        shown = " ".join(option)
        if flag in OWNED_FLAGS or flag in _ASKED:
            text = _ASKED.get(flag) or f"set {OWNED_FLAGS[flag]} yourself"
            self._note(flag, SettingOutcome.TODO, text)
        elif not flag.startswith("-"):
            self._note("", SettingOutcome.TODO, f"{shown}: not a flag of the server: correct it")
        elif without_secrets(shown) != shown:
            self._note(
                flag,
                SettingOutcome.TODO,
                "it has a secret in it: give it by spec.env from a Secret",
            )
        elif "$" in shown:
            self._note(
                flag, SettingOutcome.TODO, f"{shown}: a variable that is not known: write it out"
            )
        else:
            self._extra += option
            self._note(flag, SettingOutcome.MAPPED, f"spec.extraArgs: {shown}")

    def _valued(self, flag: str, value: str, rest: list[str]) -> None:
        if "$" in value and flag not in _DROPPED:
            self._note(
                flag, SettingOutcome.TODO, f"{value}: a variable that is not known: write it out"
            )
        elif flag in _NUMBERS:
            self._number(flag, _NUMBERS[flag], value)
        elif flag in _TEXTS:
            self._set(flag, _TEXTS[flag], value)
        elif flag in _FILES:
            if ".." in value.split("/"):
                self._note(flag, SettingOutcome.TODO, f"{value}: say where in the store that is")
            self._set(flag, _FILES[flag], {"local": {"path": local_path(value, self._root)}})
        elif flag in _URLS:
            self._address(flag, value)
        elif flag in _DROPPED:
            self._note(flag, SettingOutcome.DROPPED, _DROPPED[flag])
        elif flag in _ASKED:
            self._result.needs_key |= flag.startswith("--api-key")
            self._note(flag, SettingOutcome.TODO, _ASKED[flag])
        elif flag == "--lora-scaled" and ":" not in value:
            self._adapter(flag, f"{value}:{rest.pop(0)}" if rest else value)
        else:
            getattr(self, f"_{_SPECIAL[flag]}")(flag, value)

    def _address(self, flag: str, value: str) -> None:
        url = without_secrets(value)
        if url != value:
            text = (
                "its address has a secret: source.http.headersSecretRef takes headers of a Secret"
            )
            self._note(flag, SettingOutcome.TODO, text)
        self._set(flag, _URLS[flag], {"http": {"url": url}})

    def _set(self, flag: str, path: str, value: Any) -> None:
        """Set a field of the spec by its path in YAML."""
        *outer, last = path.split(".")
        target = self._model.spec
        for name in outer:
            target = target.setdefault(name, {})
        target[last] = value
        self._note(flag, SettingOutcome.MAPPED, f"spec.{path}: {_shown(value)}")

    def _number(self, flag: str, path: str, value: str) -> None:
        if path == "contextSize" and value == "0":
            self._note(
                flag, SettingOutcome.CHANGED, "0 is the trained length: here at most 32768 of it"
            )
        elif (number := whole_number(value)) is not None and (
            number >= 0 or path.startswith("reasoning")
        ):
            self._set(flag, path, number)
        else:
            self._note(flag, SettingOutcome.DROPPED, f"{value}: spec.{path} takes no such number")

    def _flash_attention(self, flag: str, rest: list[str]) -> None:
        values = {"on": "On", "1": "On", "off": "Off", "0": "Off", "auto": "Auto"}
        value = values[rest.pop(0)] if rest and rest[0] in values else "On"
        self._set(flag, "flashAttention", value)

    def _repo_named(self, _: str, value: str) -> None:
        self._repo = value

    def _file_named(self, _: str, value: str) -> None:
        self._file = value

    def _hub(self) -> None:
        """Set the source on the Hub; without a file, guess it from the quantization, by which
        llama-server would find it."""
        repo, _, quantization = self._repo.partition(":")
        if self._file:
            self._set("-hf", "source", {"huggingFace": {"repo": repo, "file": self._file}})
            return
        stem = repo.rpartition("/")[2].removesuffix("-GGUF")
        file = f"{stem}-{quantization or 'Q4_K_M'}.gguf"
        self._model.spec["source"] = {"huggingFace": {"repo": repo, "file": file}}
        self._note(
            "-hf",
            SettingOutcome.TODO,
            f"the file in {repo} is a guess ({file}): check that it exists",
        )

    def _draft_tokens(self, _: str, value: str) -> None:
        self._drafted = value

    def _drafting(self, flag: str, value: str) -> None:
        if value == "draft-mtp":
            self._uses_mtp = True
            self._note(flag, SettingOutcome.MAPPED, "spec.draft.mtp")
        else:
            self._note(flag, SettingOutcome.DROPPED, "the draft's own header says how it drafts")

    def _draft(self) -> None:
        """Set `draft`, for a draft model or the model's own layers; without either, add a note."""
        draft = self._model.spec.get("draft", {})
        kind = "model" if "model" in draft else "mtp" if self._uses_mtp else ""
        if not kind:
            self._note("--draft-max", SettingOutcome.DROPPED, "nothing drafts")
            return
        self._model.spec.setdefault("draft", {}).setdefault(kind, {})
        if self._drafted:
            self._number("--draft-max", f"draft.{kind}.maxTokens", self._drafted)

    def _adapter(self, flag: str, value: str) -> None:
        adapters = self._model.spec.setdefault("adapters", [])
        names = {adapter["name"] for adapter in adapters}
        for adapter_path in value.split(","):
            path, _, scale = adapter_path.partition(":")
            stem = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(path).stem.lower()).strip("-")
            name = stem[:36].strip("-") or "adapter"
            name = name if name not in names else f"{name}-{len(names) + 1}"
            names.add(name)
            local = {"local": {"path": local_path(path, self._root)}}
            adapters.append({"name": name, "source": local} | ({"scale": scale} if scale else {}))
            self._note(flag, SettingOutcome.MAPPED, f"spec.adapters: {name}")

    def _alias(self, flag: str, value: str) -> None:
        self._model.aliases += [alias for alias in value.split(",") if alias]
        self._note(flag, SettingOutcome.MAPPED, f"alias {value} of the ModelRouter")

    def _layers(self, flag: str, value: str) -> None:
        """Set `gpuLayers` or `backend`; the last of repeated flags counts."""
        self._model.spec.pop("gpuLayers", None)
        if self._model.spec.get("backend") == "CPU" and not self._is_gpu_hidden():
            del self._model.spec["backend"]
        if value == "0":
            self._set(flag, "backend", "CPU")
        elif self._is_gpu_hidden():
            self._note(flag, SettingOutcome.DROPPED, "the GPU is hidden: backend CPU")
        elif value in ("all", "auto", "-1") or (whole_number(value) or 0) >= ALL_LAYERS:
            text = "all layers are on the GPU when spec.gpuLayers is absent"
            self._note(flag, SettingOutcome.MAPPED, text)
        else:
            self._number(flag, "gpuLayers", value)

    def _is_gpu_hidden(self) -> bool:
        return self._model.spec.get("backend") == "CPU" and self._gpu_hidden

    def _device(self, flag: str, value: str) -> None:
        backend = _BACKENDS.get(re.sub(r"[\d,].*$", "", value).lower())
        if backend:
            self._set(flag, "backend", backend)
        else:
            self._note(flag, SettingOutcome.DROPPED, f"{value}: no device of a Strix Halo")

    def _reasoning_format(self, flag: str, value: str) -> None:
        formats = {"none": "None", "auto": "Auto", "deepseek": "DeepSeek"}
        if value in formats:
            self._set(flag, "reasoning.format", formats[value])
        else:
            self._note(
                flag, SettingOutcome.DROPPED, f"{value}: Auto tells thoughts from the answer"
            )

    def _port(self, flag: str, value: str) -> None:
        self._model.port = whole_number(value) or self._model.port
        self._note(flag, SettingOutcome.DROPPED, "the Service is the address")

    def _variable(self, name: str, value: str) -> None:
        if name in _HIDES_THE_GPU and value in ("-1", ""):
            self._gpu_hidden = True
            self._set(name, "backend", "CPU")
        elif name in _VARIABLES:
            self._flag([_VARIABLES[name], value])
        elif name in OWNED_ENV:
            self._note(
                name, SettingOutcome.TODO, "the operator sets it: use the field of spec for it"
            )
        elif is_secret(name) or without_secrets(value) != value:
            text = "put it into a Secret: spec.env takes valueFrom.secretKeyRef"
            self._note(name, SettingOutcome.TODO, text)
        else:
            env = [e for e in self._model.spec.get("env", []) if e["name"] != name]
            self._model.spec["env"] = [*env, {"name": name, "value": value}]
            self._note(name, SettingOutcome.MAPPED, f"spec.env: {name}")

    def _note(self, flag: str, outcome: SettingOutcome, text: str) -> None:
        where = f"{self._where} {flag}".rstrip()
        self._result.notes.append(Note(where, outcome, text, self._model.name))


def _spelled(argv: list[str]) -> list[str]:
    """Return arguments with flags as llama.cpp lists them: `--ctx_size=8` is `--ctx-size 8`."""
    spelled: list[str] = []
    for word in argv:
        if word.startswith("--") and "=" in word:
            flag, _, value = word.partition("=")
            spelled += [flag.replace("_", "-"), value]
        else:
            spelled.append(word.replace("_", "-") if word.startswith("--") else word)
    return spelled


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-[\d.]+", word)


def _shown(value: Any) -> str:
    """Return a value in one short line."""
    if isinstance(value, dict):
        return " ".join(f"{name} {_shown(nested)}" for name, nested in value.items())
    return str(value)
