"""The catalog: its resources are valid, its sizes are those of the models, its samples the same."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hack.testbed.layout import REPOSITORY
from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.cli import main
from llama_halo.cli.catalog import companion_of, entries, together
from llama_halo.gguf.header import read_header
from llama_halo.gguf.memory import MIB, kv_cache_bytes, state_bytes
from llama_halo.gguf.profile import profile
from llama_halo.plan.modes import mode_refusal
from llama_halo.plan.sizing import serving_of
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS

CATALOG = {entry.name: entry for entry in entries()}
# The dimensions of the model's file, where the tests of memory have them.
KNOWN = {
    "qwen3-6-35b-a3b": "qwen3.6-35b-a3b",
    "qwen3-6-35b-a3b-q8": "qwen3.6-35b-a3b",
    "gpt-oss-120b": "gpt-oss-120b",
    "gpt-oss-20b": "gpt-oss-20b",
    "hermes-4-14b": "hermes-4-14b",
    "hermes-4-70b": "hermes-4-70b",
    "llama-3-2-3b": "llama-3.2-3b",
    "qwen2-5-coder-7b": "qwen2.5-coder-7b",
    "deepseek-coder-v2-lite": "deepseek-coder-v2-lite-old",
    "gemma-4-26b-a4b": "gemma-4-26b-a4b",
}


@pytest.mark.parametrize("name", CATALOG)
def test_an_entry_is_a_model_that_can_be_applied(name: str) -> None:
    spec = LlamaModelSpec.model_validate(CATALOG[name].spec)
    assert mode_refusal(spec) is None


@pytest.mark.parametrize("name", KNOWN)
def test_an_entrys_cache_is_what_its_dimensions_make_it(name: str) -> None:
    spec = LlamaModelSpec.model_validate(CATALOG[name].spec)
    data = header_bytes(MODELS[KNOWN[name]], [("token_embd.weight", [32], 0, 0)])
    header = read_header(lambda at, count: data[at : at + count])
    model_profile = profile(header, "x.gguf")
    serving = serving_of(spec, model_profile)
    own = kv_cache_bytes(model_profile.model, serving) + state_bytes(model_profile.model, serving)
    assert own / MIB == pytest.approx(CATALOG[name].context_mib, abs=1)


def samples() -> dict[str, dict[str, Any]]:
    value = {}
    for path in (REPOSITORY / "deploy/samples").rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "LlamaModel" and "huggingFace" in document["spec"]["source"]:
                value[f"{path.parent.name}/{document['metadata']['name']}"] = document
    return value


@pytest.mark.parametrize("sample", samples())
def test_a_sample_of_a_model_of_the_catalog_is_of_the_same_file(sample: str) -> None:
    resource = samples()[sample]
    name = resource["metadata"]["name"]
    if name in CATALOG:
        assert resource["spec"]["source"] == CATALOG[name].spec["source"]


def test_what_fits_together_is_told() -> None:
    big, coder = CATALOG["gpt-oss-120b"], CATALOG["qwen3-6-35b-a3b"]
    assert together([big, coder], 104 * 1024) == ("# together about 85.9Gi of 104.0Gi", True)
    message, fits = together([big, coder, CATALOG["hermes-4-70b"]], 104 * 1024)
    assert not fits
    assert "they take turns" in message
    message, fits = together([big], 32 * 1024)
    assert not fits
    assert "gpt-oss-120b: more than the 32.0Gi of a machine even alone" in message
    assert companion_of(big, list(CATALOG.values()), 104 * 1024) == "qwen3-6-35b-a3b-q8"
    assert companion_of(big, list(CATALOG.values()), 63 * 1024) == "-"


def test_the_catalog_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(CATALOG) + 1
    assert main(["catalog", "gpt-oss-20b", "llama-3-2-3b"]) == 0
    printed = capsys.readouterr()
    kinds = [document["metadata"]["name"] for document in yaml.safe_load_all(printed.out)]
    assert kinds == ["gpt-oss-20b", "llama-3-2-3b"]
    assert "together about" in printed.err
    assert main(["catalog", "gpt-5"]) == 1
    assert "gpt-5: not in the catalog" in capsys.readouterr().err
    assert main(["catalog", "gpt-oss-20b", "--budget", "lots"]) == 1
    refused = capsys.readouterr()
    assert not refused.out
    assert "must be a quantity like 104Gi" in refused.err
