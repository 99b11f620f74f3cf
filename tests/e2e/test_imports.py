"""Files of other systems, imported and applied with small stand-ins: every name answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hack.testbed import llama_server, minilm
from tests.support import provider
from tests.support.kubectl import Kubectl
from tests.support.manifests import smollm2

Json = dict[str, Any]
IMPORTS = Path(__file__).parents[1] / "imports"
CASES = sorted(path for path in IMPORTS.iterdir() if path.is_dir())
KEY = "a-key-of-sixteen-letters"
STAND_INS = {
    "Chat": f"smollm2/{llama_server.MODEL_FILE}",
    "Embedding": f"minilm/{minilm.MODEL_FILE}",
}
# What the stand-in has of its own, or has not.
_OURS = ("source", "backend", "threads", "promptCacheMiB", "memory", "image", "command", "verify")
_NOT_THERE = ("gpuLayers", "projector", "draft", "adapters", "microBatchSize", "batchSize")


def imported(case: Path) -> list[Json]:
    """Return what the command makes of a case's files."""
    files = sorted(str(path) for path in case.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "llama_halo", "import", *files, "--router", "imported"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2), done.stderr
    return list(yaml.safe_load_all(done.stdout))


def with_stand_in(resource: Json) -> Json:
    """Return a LlamaModel with a small model's file, for a node without a GPU."""
    spec = resource["spec"]
    kept = {name: item for name, item in spec.items() if name not in _NOT_THERE}
    small = smollm2(resource["metadata"]["name"], contextSize=512)["spec"]
    source = {"local": {"path": STAND_INS[spec.get("mode", "Chat")]}}
    ours = {name: small[name] for name in _OURS}
    merged = {**small, **kept, **ours, "source": source, "contextSize": 512}
    return {**resource, "spec": merged}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_every_name_of_an_imported_configuration_answers(kube: Kubectl, case: Path) -> None:
    kube.cluster.install_model("minilm")
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    *models, router = imported(case)
    if "providers" in router["spec"]:
        provider.applied(kube)
        router = provider.with_stand_ins(kube, router)
    kube.apply(provider.secret("imported-keys", me=KEY))
    for model in models:
        kube.apply(with_stand_in(model))
    kube.apply(router)
    names = [f"llamamodel/{entry['metadata']['name']}" for entry in models]
    kube.wait_ready(*names, "modelrouter/imported")
    modes = {entry["metadata"]["name"]: entry["spec"].get("mode", "Chat") for entry in models}
    assert router["spec"]["models"]
    with kube.forwarded("service/imported-router") as url:
        for entry in router["spec"]["models"]:
            mode = modes[entry["modelRef"]["name"]] if "modelRef" in entry else "Chat"
            for name in (entry["name"], *entry.get("aliases", ())):
                answer = _ask(url, name, mode)
                assert answer.status_code == 200, (name, answer.text)
                assert answer.headers["x-model"] == entry["name"], name
    kube.wait_ready(*names, "modelrouter/imported")


def _ask(url: str, name: str, mode: str) -> httpx.Response:
    headers = {"x-api-key": KEY}
    if mode == "Embedding":
        body: Json = {"model": name, "input": "x"}
        return httpx.post(f"{url}/v1/embeddings", json=body, headers=headers, timeout=120)
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120)
