"""Files of other systems -> resources: golden outputs, and that nothing is lost or told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.cli import main
from llama_halo.importers.command_line import CommandLine, split
from llama_halo.importers.found import Found, FoundModel, Verdict
from llama_halo.importers.resources import Wanted, resources
from llama_halo.importers.text import manifests, order, read, report

IMPORTS = Path(__file__).parents[1] / "imports"
CASES = sorted(path for path in IMPORTS.iterdir() if path.is_dir())
SECRETS = (
    *("sk-litellm-secret-1", "a-secret-key-for-clients", "a-secret-key-of-the-cloud"),
    "a-secret-key-of-bob",
)
Json = dict[str, Any]


def imported(*texts: tuple[str, str], root: str = "/models", **wanted: Any) -> tuple[Found, str]:
    """Return what was found in files and the manifests."""
    found = Found()
    for file, text in sorted(texts, key=lambda each: order(*each)):
        read(found, file, text, root)
    return found, manifests(found, resources(found, Wanted(**wanted)))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_configuration_becomes_what_is_written_down(case: Path) -> None:
    files = sorted(path for path in case.iterdir() if ".golden" not in path.name)
    found, text = imported(*((path.name, path.read_text()) for path in files))
    golden = IMPORTS / f"{case.name}.golden.yaml"
    told = "".join(f"# {line}\n" for line in report(found, every=True).splitlines())
    whole = f"{told}---\n{text}"
    if os.environ.get("GOLDEN_UPDATE"):
        golden.write_text(whole)
    assert whole == golden.read_text()
    for each in yaml.safe_load_all(text):
        schema = LlamaModelSpec if each["kind"] == "LlamaModel" else ModelRouterSpec
        schema.model_validate(each["spec"])
    assert not any(secret in whole for secret in SECRETS)


MODEL: dict[str, tuple[str, Json]] = {
    "short spellings": (
        "-m a.gguf -c 4096 -ngl 20 -np 2",
        {"contextSize": 4096, "gpuLayers": 20, "parallel": 2},
    ),
    "long spellings, with = and _": (
        "--model a.gguf --ctx_size=4096 --cache-type-k=q8_0 --n-gpu-layers=all",
        {"contextSize": 4096, "cacheType": {"k": "q8_0"}},
    ),
    "the last of two wins": ("-m a.gguf -c 1024 -c 2048", {"contextSize": 2048}),
    "flash attention without a value": (
        "-m a.gguf -fa -c 512",
        {"flashAttention": "On", "contextSize": 512},
    ),
    "flash attention off": ("-m a.gguf --flash-attn off", {"flashAttention": "Off"}),
    "no layers on the GPU": ("-m a.gguf -ngl 0", {"backend": "CPU"}),
    "a hidden GPU": ("HIP_VISIBLE_DEVICES=-1 llama-server -m a.gguf -ngl 99", {"backend": "CPU"}),
    "a named device": ("-m a.gguf -dev ROCm0", {"backend": "ROCm"}),
    "what nobody knows goes on": (
        "-m a.gguf --temp 0.7 --seed -1 --swa-full",
        {"extraArgs": ["--temp", "0.7", "--seed", "-1", "--swa-full"]},
    ),
    "a draft": (
        "-m a.gguf -md b.gguf --draft-max 8",
        {"draft": {"model": {"source": {"local": {"path": "b.gguf"}}, "maxTokens": 8}}},
    ),
    "adapters": (
        "-m a.gguf --lora-scaled /models/My_Lora.gguf 0.5",
        {
            "adapters": [
                {"name": "my-lora", "source": {"local": {"path": "My_Lora.gguf"}}, "scale": "0.5"}
            ]
        },
    ),
    "embeddings": (
        "-m a.gguf --embeddings --pooling mean",
        {"mode": "Embedding", "extraArgs": ["--pooling", "mean"]},
    ),
    "thoughts": (
        "-m a.gguf --reasoning-format deepseek --reasoning-budget -1",
        {"reasoning": {"format": "DeepSeek", "budgetTokens": -1}},
    ),
    "the environment": (
        "LLAMA_ARG_CTX_SIZE=4096 FOO=bar llama-server -m a.gguf",
        {"contextSize": 4096, "env": [{"name": "FOO", "value": "bar"}]},
    ),
    "flags that were removed": ("-m a.gguf --no-mmap --mlock -kvu", {}),
}


@pytest.mark.parametrize("case", MODEL)
def test_a_command_line_becomes_typed_fields(case: str) -> None:
    line, wanted = MODEL[case]
    line = line if "llama-server" in line else f"llama-server {line}"
    variables, words, _ = split(line)
    model = FoundModel("a")
    CommandLine(Found(), model, "x", "/models").read(words, variables)
    assert model.spec == {"source": {"local": {"path": "a.gguf"}}, **wanted}
    LlamaModelSpec.model_validate(model.spec)


def test_a_modelfile() -> None:
    text = (
        "# mine\nFROM ./llama/model.gguf\nPARAMETER num_ctx 8192\nPARAMETER temperature 0.2\n"
        'PARAMETER stop "x"\nPARAMETER num_gpu 0\nSYSTEM """You\nare"""\nADAPTER ./lora.gguf\n'
    )
    found, _ = imported(("coder.modelfile", text))
    assert found.models["coder"].spec == {
        "source": {"local": {"path": "llama/model.gguf"}},
        "contextSize": 8192,
        "extraArgs": ["--temp", "0.2"],
        "backend": "CPU",
        "adapters": [{"name": "lora", "source": {"local": {"path": "lora.gguf"}}}],
    }
    dropped = [each.where for each in found.notes if each.verdict is Verdict.DROPPED]
    assert dropped == ["coder.modelfile: PARAMETER", "coder.modelfile: SYSTEM"]


def test_a_script_with_command_lines() -> None:
    script = (
        "#!/bin/sh\nexport A=1\n# llama-server -m no.gguf\n"
        "llama-server -m /models/one-00001-of-00002.gguf \\\n  --port 8081 -c 4096 &\n"
        "HSA_X=1 /opt/build/bin/llama-server --model ~/models/two.gguf -a b,c --port 8082\n"
    )
    found, text = imported(("run.sh", script))
    assert list(found.models) == ["one", "b"]
    assert found.models["one"].port == 8081
    assert found.models["b"].aliases == ["c"]
    assert "two.gguf" in text


NAMES = st.text(
    st.characters(whitelist_categories=("L", "N"), max_codepoint=127), min_size=3, max_size=12
)


@given(st.dictionaries(NAMES.map(lambda name: f"x{name}"), st.integers(), min_size=1, max_size=5))
def test_no_setting_is_lost_without_a_word(extra: Json) -> None:
    command = {"cmd": "llama-server -m a.gguf"}
    files: list[tuple[str, Json]] = [
        ("a.yaml", {"models": {"m": {**command, **extra}}}),
        ("b.yaml", {"models": {"m": command}, **extra}),
        ("c.yaml", {"models": {"m": command}, "groups": {"g": {"members": ["m"], **extra}}}),
        (
            "d.yaml",
            {"model_list": [{"model_name": "n", "litellm_params": {"model": "openai/m", **extra}}]},
        ),
        ("e.json", {"Providers": [{"name": "p", "models": ["m"], **extra}], "Router": {}}),
        ("f.json", {"Providers": [], "Router": {"default": "p,m", **extra}}),
        ("g.json", {"m": {"ctx_size": 512, **extra}}),
    ]
    for file, document in files:
        found = Found()
        read(found, file, json.dumps(document), "/models")
        told = {note.where.rpartition(".")[2] for note in found.notes}
        assert extra.keys() <= told, file


@given(st.lists(st.text(max_size=20), max_size=12))
def test_any_words_are_read_without_an_error(words: list[str]) -> None:
    model = FoundModel("a")
    CommandLine(Found(), model, "x", "/models").read(words, [])


ASKED: dict[str, tuple[list[str], str]] = {
    "no such file": (["missing.yaml"], "missing.yaml cannot be read"),
    "a format that nobody knows": (["x.txt"], "x.txt: not known: give a config of llama-swap"),
    "no JSON": (["x.json"], "x.json is no JSON"),
    "a source for no model": (["s.yaml", "--source", "n=local:a"], "the models are m"),
    "no source": (["s.yaml", "--source", "m=ftp://a"], "is no source: give local:PATH"),
    "no name": (["s.yaml", "--source", "local:a"], "give NAME=local:PATH"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_imported_is_said(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, wanted = ASKED[case]
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("hello")
    Path("x.json").write_text("{")
    Path("s.yaml").write_text("models: {m: {cmd: llama-server -m a.gguf}}")
    assert main(["import", *words]) == 1
    assert wanted in capsys.readouterr().err


def test_an_engine_takes_its_own_settings_back(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(IMPORTS / "multi-provider/config.json")
    status = main(["import", file, "--engine", "claudeCodeRouter", "--source", "*=local:a.gguf"])
    assert status == 2, "keys are to be put into Secrets"
    *_, router = yaml.safe_load_all(capsys.readouterr().out)
    chosen = router["spec"]["engine"]["claudeCodeRouter"]
    assert chosen["apiTimeout"] == "600s"
    assert chosen["transformers"]["ollama"]["use"] == ["deepseek"]
    assert router["spec"]["auth"]["secretRef"] == {"name": "main-keys", "keys": ["me"]}
