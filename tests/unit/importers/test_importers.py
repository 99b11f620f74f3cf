"""Files of other systems -> resources: golden outputs, and that nothing is lost or told."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.cli import main
from llama_halo.errors import CliError
from llama_halo.importers.command_line import CommandLine
from llama_halo.importers.resources import ImportOptions, resources
from llama_halo.importers.result import ImportedModel, ImportResult, SettingOutcome
from llama_halo.importers.shell import parse
from llama_halo.importers.text import manifests, order, read, report

IMPORTS = Path(__file__).parents[2] / "imports"
CASES = sorted(path for path in IMPORTS.iterdir() if path.is_dir())
SECRETS = (
    *("sk-litellm-secret-1", "a-secret-key-for-clients", "a-secret-key-of-the-cloud"),
    "a-secret-key-of-bob",
)
Json = dict[str, Any]


def imported(
    *texts: tuple[str, str], root: str = "/models", **expected: Any
) -> tuple[ImportResult, str]:
    """Return what was found in files and the manifests."""
    result = ImportResult()
    for file, text in sorted(texts, key=lambda item: order(*item)):
        read(result, file, text, root)
    return result, manifests(result, resources(result, ImportOptions(**expected)))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_configuration_becomes_what_is_written_down(case: Path) -> None:
    files = sorted(path for path in case.iterdir() if ".golden" not in path.name)
    value, text = imported(*((path.name, path.read_text()) for path in files))
    golden = IMPORTS / f"{case.name}.golden.yaml"
    message = "".join(f"# {line}\n" for line in report(value, every=True).splitlines())
    whole = f"{message}---\n{text}"
    if os.environ.get("GOLDEN_UPDATE"):
        golden.write_text(whole)
    assert whole == golden.read_text()
    for document in yaml.safe_load_all(text):
        schema = LlamaModelSpec if document["kind"] == "LlamaModel" else ModelRouterSpec
        schema.model_validate(document["spec"])
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
    "adapters, as llama-server has it now": (
        "-m a.gguf --lora-scaled /models/My_Lora.gguf:0.5",
        {
            "adapters": [
                {"name": "my-lora", "source": {"local": {"path": "My_Lora.gguf"}}, "scale": "0.5"}
            ]
        },
    ),
    "a model that drafts itself": (
        "-m a.gguf --spec-type draft-mtp --spec-draft-n-max 2",
        {"draft": {"mtp": {"maxTokens": 2}}},
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
    line, expected = MODEL[case]
    line = line if "llama-server" in line else f"llama-server {line}"
    model = ImportedModel("a")
    CommandLine(ImportResult(), model, "x", "/models").start(parse(line), [])
    assert model.spec == {"source": {"local": {"path": "a.gguf"}}, **expected}
    LlamaModelSpec.model_validate(model.spec)


def test_a_modelfile() -> None:
    text = (
        "# mine\nFROM ./llama/model.gguf\nPARAMETER num_ctx 8192\nPARAMETER temperature 0.2\n"
        'PARAMETER stop "x"\nPARAMETER num_gpu 0\nSYSTEM """You\nare"""\nADAPTER ./lora.gguf\n'
    )
    value, _ = imported(("coder.modelfile", text))
    assert value.models["coder"].spec == {
        "source": {"local": {"path": "llama/model.gguf"}},
        "contextSize": 8192,
        "extraArgs": ["--temp", "0.2"],
        "backend": "CPU",
        "adapters": [{"name": "lora", "source": {"local": {"path": "lora.gguf"}}}],
    }
    dropped = [note.where for note in value.notes if note.outcome is SettingOutcome.DROPPED]
    assert dropped == ["coder.modelfile: PARAMETER", "coder.modelfile: SYSTEM"]


NAMES = st.text(
    st.characters(whitelist_categories=("L", "N"), max_codepoint=127), min_size=3, max_size=12
)


NUMBERS = st.integers(-(10**15), 10**15)


@given(st.dictionaries(NAMES.map(lambda name: f"x{name}"), NUMBERS, min_size=1, max_size=5))
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
        result = ImportResult()
        read(result, file, json.dumps(document), "/models")
        rpartitions = {note.where.rpartition(".")[2] for note in result.notes}
        assert extra.keys() <= rpartitions, file


FLAGS = st.sampled_from(
    ["-m", "-c", "-ngl", "--lora", "--lora-scaled", "-fa", "-hf", "--port", "--spec-type", "-ub"]
)


@given(st.lists(st.one_of(FLAGS, st.text(max_size=20)), max_size=12))
def test_any_words_are_read_without_an_error(arguments: list[str]) -> None:
    model = ImportedModel("a")
    CommandLine(ImportResult(), model, "x", "/models").read(arguments, [])


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    for file in ("a.yaml", "a.json", "a.txt", "a.modelfile"):
        with contextlib.suppress(CliError):
            imported((file, f"llama-server {text}"), (file, text))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "x\n---\nkind: Evil", "${a}", "'", "http://localhost:${PORT}/v1", "-1"]),
    st.lists(st.none(), max_size=2),
    st.just({"a": {"b": []}}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, item in pairs:
        yield from places(item, (*path, key))


@settings(max_examples=400)
@given(st.data())
def test_whatever_stands_where_it_does_not_belong_ends_in_no_traceback(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    documents = {
        path.name: yaml.safe_load(path.read_text())
        for path in case.iterdir()
        if path.suffix in (".yaml", ".json")
    }
    name = data.draw(st.sampled_from(sorted(documents)))
    *outer, last = data.draw(st.sampled_from([p for p in places(documents[name]) if p]))
    target = documents[name]
    for key in outer:
        target = target[key]
    target[last] = data.draw(ODD)
    with contextlib.suppress(CliError):
        _, text = imported(
            *((file, yaml.safe_dump(document)) for file, document in documents.items())
        )
        kinds = {document["kind"] for document in yaml.safe_load_all(text) if document}
        assert kinds <= {"LlamaModel", "ModelRouter"}


SECRET = "sk-hidden-0123456789"
HIDDEN: dict[str, tuple[str, str]] = {
    "a flag": ("a.sh", f"llama-server -m a.gguf --api-key {SECRET}"),
    "a flag with =": ("a.sh", f"llama-server -m a.gguf --api-key={SECRET}"),
    "in a shell": ("a.sh", f"sh -c 'exec llama-server -m a.gguf --api-key {SECRET}'"),
    "of a container": ("a.sh", f"docker run -e HF_TOKEN={SECRET} image llama-server -m a.gguf"),
    "in the environment": ("a.sh", f"HF_TOKEN={SECRET} llama-server -m a.gguf"),
    "in an address": ("a.sh", f"llama-server -mu https://u:{SECRET}@host/x.gguf?token={SECRET}"),
    "after a pipe": ("a.sh", f"llama-server -m a.gguf && curl -H 'Authorization: Bearer {SECRET}'"),
    "of llama-swap": (
        "a.yaml",
        f"models: {{m: {{cmd: llama-server -m a.gguf, env: ['AUTH={SECRET}',"
        f" 'HTTPS_PROXY=http://u:{SECRET}@p']}}}}\napiKeys: ['{SECRET}']",
    ),
    "of a broken file": ("a.yaml", f'models: {{m: {{cmd: llama-server}}}}\napiKeys: ["{SECRET}'),
    "of LiteLLM": (
        "a.yaml",
        f"model_list: [{{model_name: n, litellm_params: {{model: openai/m, api_key: {SECRET},"
        f" api_base: 'https://u:{SECRET}@h/v1', extra_headers: {{a: {SECRET}}}}}}}]\n"
        f"general_settings: {{master_key: {SECRET}}}",
    ),
    "of a transformer": (
        "a.json",
        json.dumps(
            {
                "Providers": [
                    {
                        "name": "p",
                        "api_base_url": "https://h/v1/chat/completions",
                        "api_key": SECRET,
                        "models": ["m"],
                        "transformer": {"use": [["x", {"headers": {"Authorization": SECRET}}]]},
                    }
                ],
                "APIKEY": SECRET,
                "Router": {"default": "p,m"},
            }
        ),
    ),
}


@pytest.mark.parametrize("case", HIDDEN)
def test_no_secret_is_written_out(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text = HIDDEN[case]
    (tmp_path / file).write_text(text)
    main(["import", str(tmp_path / file), "-v", "--engine", "claudeCodeRouter"])
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert "hidden" not in printed.out + printed.err


SCRIPT = """#!/bin/bash
# start things
export LLAMA_ARG_CTX_SIZE=4096
SERVER=/opt/llama.cpp/build/bin/llama-server
MODEL=/models/one.gguf
pkill llama-server
echo "starting llama-server"
$SERVER -m "$MODEL" --port 8081 -ngl 0 -ngl 99 > /tmp/log 2>&1 &
nohup llama-server-b1234 -m $UNKNOWN --port 8082 -c 2048  # the other
ExecStop=/usr/bin/pkill llama-server
"""


def test_a_script_starts_what_it_starts() -> None:
    value, _ = imported(("run.sh", SCRIPT))
    one, other = value.models.values()
    assert one.name == "one"
    assert one.spec == {"source": {"local": {"path": "one.gguf"}}, "contextSize": 4096}
    assert other.spec == {"contextSize": 2048}
    asked = [note.text for note in value.notes if note.outcome is SettingOutcome.TODO]
    assert any("$UNKNOWN: a variable that is not known" in text for text in asked)


def test_a_config_map_is_what_is_in_it() -> None:
    inner = "models: {m: {cmd: llama-server -m a.gguf}}"
    text = yaml.safe_dump({"kind": "ConfigMap", "data": {"config.yaml": inner}})
    value, _ = imported(("configmap.yaml", text))
    assert list(value.models) == ["m"]


def test_two_of_one_name_stay_two() -> None:
    value, text = imported(
        ("run.sh", "llama-server -m a.gguf -c 1024\nllama-server -m a.gguf -c 2048\n"),
        ("a.yaml", "models: {a: {cmd: llama-server -m b.gguf}}"),
    )
    assert [model.spec.get("contextSize") for model in value.models.values()].count(1024) == 1
    names = [document["metadata"]["name"] for document in yaml.safe_load_all(text)]
    assert len(names) == len(set(names)) == 4


def test_providers_and_aliases_stay_apart() -> None:
    entries = [
        ("a", "openai/gpt-x", "https://one.example.com/v1"),
        ("b", "openai/other", "https://two.example.com/v1"),
        ("c", "openrouter/gpt-x", "https://three.example.com/v1"),
        ("big", "openai/big", "http://localhost:8080/v1"),
        ("small", "openai/small", "http://localhost:8080/v1"),
    ]
    document = {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": model, "api_base": address}}
            for name, model, address in entries
        ]
    }
    _, text = imported(("l.yaml", yaml.safe_dump(document)))
    *_, router = yaml.safe_load_all(text)
    names = {
        alias: model
        for model in router["spec"]["models"]
        for alias in (model["name"], *model.get("aliases", ()))
    }
    addresses = {provider["name"]: provider["baseURL"] for provider in router["spec"]["providers"]}
    for name, _, address in entries[:3]:
        assert addresses[names[name]["provider"]] == address
    assert names["big"]["modelRef"] != names["small"]["modelRef"]


ASKED: dict[str, tuple[list[str], str]] = {
    "a name that no router has": (
        ["s.yaml", "--router", "My Router"],
        "give at most 40 lowercase letters",
    ),
    "a path out of the store": (["s.yaml", "--source", "m=local:/a/../b"], "is no source"),
    "a compose file": (["c.yaml"], "docker-compose is not read"),
    "no such file": (["missing.yaml"], "missing.yaml cannot be read"),
    "a format that nobody knows": (["x.txt"], "x.txt: not known: give a config of llama-swap"),
    "no JSON": (["x.json"], "x.json is no JSON"),
    "rules of something else": (["r.yaml"], "r.yaml: not known"),
    "llama-swap's own example": (["e.yaml"], "there is no model in these files"),
    "a source for no model": (["s.yaml", "--source", "n=local:a"], "the models are m"),
    "no source": (["s.yaml", "--source", "m=ftp://a"], "is no source: give local:PATH"),
    "no name": (["s.yaml", "--source", "local:a"], "give NAME=local:PATH"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_imported_is_said(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = ASKED[case]
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("hello")
    Path("x.json").write_text("{")
    Path("c.yaml").write_text("services: {a: {command: llama-server -m a.gguf}}")
    Path("r.yaml").write_text("groups: [{name: a, rules: []}]")
    Path("e.yaml").write_text('macros: {llama: "llama-server --port 1"}\nmodels:\n  # m: {}\n')
    Path("s.yaml").write_text("models: {m: {cmd: llama-server -m a.gguf}}")
    assert main(["import", *arguments]) == 1
    assert expected in capsys.readouterr().err


def test_an_engine_takes_its_own_settings_back(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(IMPORTS / "multi-provider/config.json")
    status = main(["import", file, "--engine", "claudeCodeRouter", "--source", "*=local:a.gguf"])
    assert status == 2, "keys are to be put into Secrets"
    *_, router = yaml.safe_load_all(capsys.readouterr().out)
    chosen = router["spec"]["engine"]["claudeCodeRouter"]
    assert chosen["apiTimeout"] == "600s"
    assert chosen["transformers"]["ollama"]["use"] == ["deepseek"]
    assert router["spec"]["auth"]["secretRef"] == {"name": "main-keys", "keys": ["me"]}
