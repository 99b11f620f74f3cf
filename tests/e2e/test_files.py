"""Models from a Hub, for real: looked at, downloaded to the node, verified, loaded, served.

The Hub is a small one on the node's own address; everything else is as it would be.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hack.demo import kubectl
from hack.testbed import llama_server
from tests.support.api import administrators, eventually, message, ready
from tests.support.gguf_projectors import adapter, llava, write
from tests.support.hub import COMMIT, Hub, serve, sha256_of
from tests.support.kubectl import NAMESPACE, Kubectl
from tests.support.manifests import smollm2

Json = dict[str, Any]
FILE = "smollm2/SmolLM2-135M-Q4_1.gguf"
# A picture of one pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
OTHER = "decade" + "0" * 34
STORE = Path("/var/lib/llama-halo/models/hf/HuggingFaceTB/SmolLM2")
SYSTEM = ("-n", "llama-halo-system")


def node_address(kube: Kubectl) -> str:
    addresses = kube.list("nodes")[0]["status"]["addresses"]
    return next(address["address"] for address in addresses if address["type"] == "InternalIP")


@pytest.fixture(scope="module")
def hub(kube: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub that the operator is told to use."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "smollm2").mkdir()
    shutil.copy(llama_server.model_file(), folder / FILE)
    shutil.rmtree(STORE, ignore_errors=True)
    kube("create", "secret", "generic", "hub", "--from-literal=token=the-secret-token")
    with serve(Hub(folder, address=node_address(kube), token="the-secret-token")) as served:
        setting = f"LLAMA_HALO_HF_ENDPOINT={served.url}"
        deployment = "deployment/llama-halo-operator"
        kubectl(kube.cluster, *SYSTEM, "set", "env", deployment, setting)
        kubectl(kube.cluster, *SYSTEM, "rollout", "status", deployment, "--timeout=120s")
        yield served
        kubectl(kube.cluster, *SYSTEM, "set", "env", deployment, "LLAMA_HALO_HF_ENDPOINT-")
        kubectl(kube.cluster, *SYSTEM, "rollout", "status", deployment, "--timeout=120s")


def from_hub(name: str, **spec: Any) -> Json:
    """Return a model of the Hub, without memory or context: both follow from its header."""
    value = smollm2(name, **spec)
    value["spec"]["source"] = {
        "huggingFace": {
            "repo": "HuggingFaceTB/SmolLM2",
            "file": FILE,
            "tokenSecretRef": {"name": "hub", "key": "token"},
        }
    }
    del value["spec"]["memory"]
    return value


def test_a_model_of_the_hub_is_inspected_downloaded_loaded_and_served(
    kube: Kubectl, hub: Hub
) -> None:
    size = (hub.folder / FILE).stat().st_size
    hub.bytes_per_second = size // 25
    kube.apply(from_hub("hub"))
    states: list[str] = []
    percents: list[int] = []

    def serving() -> bool:
        live = kube.get("llamamodel/hub")
        state = ready(live)[1]
        if state and state not in states[-1:]:
            states.append(state)
        percents.append(live.get("status", {}).get("download", {}).get("percent", 0))
        return state == "Serving"

    eventually(serving, seconds=180, description="the model serves")
    print("states:", " -> ".join(states))
    steps = ["Inspecting", "Downloading", "Loading", "Serving"]
    assert [state for state in states if state in steps] == steps
    assert len({percent for percent in percents if percent}) >= 3, percents
    status = kube.get("llamamodel/hub")["status"]
    assert status["model"]["revision"] == COMMIT
    assert status["model"]["sha256"] == sha256_of(hub.folder / FILE)
    assert status["model"]["architecture"] == "llama"
    assert status["files"][0]["path"].startswith("hf/HuggingFaceTB/SmolLM2/")
    assert "download" not in status
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert (conditions["FilesVerified"], conditions["MemoryReserved"]) == ("True", "True")
    # Its Jobs have said what they had to say, and are gone.
    eventually(lambda: not kube.list("jobs"))
    # The token is nowhere but in the Secret.
    everything = kube("get", "all,events,llamamodels", "-o", "yaml")
    logs = kubectl(kube.cluster, *SYSTEM, "logs", "deployment/llama-halo-operator")
    assert "the-secret-token" not in everything + logs


@pytest.mark.parametrize(
    "settings",
    [
        {"contextSize": 2048},
        {"contextSize": 8192, "parallel": 4},
        {"contextSize": 8192, "cacheType": {"k": "q8_0", "v": "q8_0"}, "flashAttention": "On"},
        {"contextSize": 5000, "cacheType": {"k": "f32", "v": "f32"}},
        {"contextSize": 4096, "cacheType": {"k": "q4_0", "v": "f16"}, "parallel": 2},
    ],
    ids=str,
)
def test_the_kv_cache_in_the_status_is_llama_servers_own(
    kube: Kubectl, hub: Hub, tmp_path: Path, settings: Json
) -> None:
    hub.bytes_per_second = 0
    kube.apply(from_hub("hub", extraArgs=["-lv", "4"], **settings))
    kube("rollout", "status", f"deployment/{deployment(kube, 'hub')}", "--timeout=120s")
    kube.wait_ready("llamamodel/hub")
    kv_cache_mi_b = kube.get("llamamodel/hub")["status"]["memory"]["kvCacheMiB"]
    log = kube("logs", f"deployment/{deployment(kube, 'hub')}")
    sizes = [float(match) for match in re.findall(r"KV buffer size = +([\d.]+) MiB", log)]
    print(f"{settings}: status {kv_cache_mi_b} MiB, llama-server {sizes} MiB")
    assert sizes
    assert kv_cache_mi_b == math.ceil(sum(sizes))
    value = estimate(administrators(kube.cluster.kubeconfig, tmp_path), "hub", "-n", NAMESPACE)
    assert math.ceil(value["kv_cache_mib"]) == kv_cache_mi_b


def estimate(kubeconfig: Path, *arguments: str) -> Json:
    """Run `llama-halo estimate` for a model of the cluster."""
    done = subprocess.run(
        [sys.executable, "-m", "llama_halo", "estimate", *arguments, "-o", "json"],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value: Json = json.loads(done.stdout)
    return value


def deployment(kube: Kubectl, name: str) -> str:
    selector = f"llama-halo.dev/model={name}"
    value = kube.list("deployments", selector)
    assert len(value) == 1
    return str(value[0]["metadata"]["name"])


def test_a_branch_that_moves_changes_no_bytes_until_somebody_asks(kube: Kubectl, hub: Hub) -> None:
    kube.apply(from_hub("hub"))
    kube.wait_ready("llamamodel/hub")
    before = kube.get("llamamodel/hub")["status"]
    pods = kube.pod_uids("llama-halo.dev/model=hub")
    changed = hub.folder / OTHER / FILE
    changed.parent.mkdir(parents=True)
    data = (hub.folder / FILE).read_bytes()
    changed.write_bytes(data + bytes(64))
    hub.revisions["main"] = OTHER
    # Not an edit, nor an operator that starts anew, goes after a branch.
    kube.apply(from_hub("hub", aliases=["any"]))
    name = "deployment/llama-halo-operator"
    kubectl(kube.cluster, *SYSTEM, "rollout", "restart", name)
    kubectl(kube.cluster, *SYSTEM, "rollout", "status", name, "--timeout=120s")
    eventually(
        lambda: kube.get("llamamodel/hub")["status"],
        until=lambda value: value["observedGeneration"] > before["observedGeneration"],
        seconds=30,
    )
    assert kube.get("llamamodel/hub")["status"]["model"]["revision"] == COMMIT
    assert kube.pod_uids("llama-halo.dev/model=hub") == pods
    # Asked to look again it does, and rolls when the new file is there.
    kube("annotate", "llamamodel/hub", "reconcile.fluxcd.io/requestedAt=now")
    eventually(
        lambda: kube.get("llamamodel/hub"),
        until=lambda value: (
            value["status"]["model"].get("revision") == OTHER
            and ready(value) == ("True", "Serving")
        ),
        seconds=120,
        description="the new commit serves",
    )
    assert kube.pod_uids("llama-halo.dev/model=hub").isdisjoint(pods)
    hub.revisions["main"] = COMMIT


@pytest.mark.timeout(900)
def test_a_fetch_killed_ten_times_goes_on_where_it_was(kube: Kubectl, hub: Hub) -> None:
    """SIGKILL, as a machine without memory does it; the kubelet starts the container again."""
    big = hub.folder / "big/SmolLM2-135M-Q4_1.gguf"
    big.parent.mkdir()
    shutil.copy(hub.folder / FILE, big)
    with big.open("ab") as file:
        file.write(bytes(range(256)) * (200 * 2**12))
    size = big.stat().st_size
    hub.bytes_per_second, hub.sent_bytes = size // 40, 0
    expected = from_hub("killed")
    expected["spec"]["source"]["huggingFace"]["file"] = "big/SmolLM2-135M-Q4_1.gguf"
    kube.apply(expected)
    for number in range(10):
        least = size * (number + 1) // 12
        eventually(
            lambda least=least: received() >= least,  # type: ignore[misc]
            seconds=120,
            description=f"{least} bytes after {number} kills",
        )
        kill_fetch()
    hub.bytes_per_second = 0
    kube.wait_ready("llamamodel/killed", seconds=180)
    twice = hub.sent_bytes - size
    print(f"10 kills: {twice} bytes of {size} fetched twice, {twice / size:.1%}")
    assert twice < 0.05 * size
    files = kube.get("llamamodel/killed")["status"]["files"][0]
    assert sha256_of(STORE.parents[2] / files["path"]) == sha256_of(big)
    kube("delete", "llamamodel/killed")


def received() -> int:
    return sum(path.stat().st_size for path in STORE.rglob("big/*.partial"))


def kill_fetch() -> None:
    """Kill the process that fetches, by its own pid."""
    ints = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"llama-halo\0fetch\0" in _read(path)
    ]
    assert len(ints) == 1, ints
    os.kill(ints[0], signal.SIGKILL)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"repo": "nobody/none", "file": "none.gguf"}, "SourceNotFound", "none.gguf"),
        ({"revision": "none"}, "SourceNotFound", "no such revision"),
        ({"tokenSecretRef": None}, "Unauthorized", "token"),
        ({"tokenSecretRef": {"name": "missing", "key": "token"}}, "CannotStart", "missing"),
        ({"file": "text.gguf"}, "NotAGGUF", "does not start with GGUF"),
    ],
    ids=["no file", "no revision", "no token", "no Secret", "no GGUF"],
)
def test_what_is_wrong_with_a_source_is_told(
    kube: Kubectl, hub: Hub, change: Json, reason: str, says: str
) -> None:
    (hub.folder / "text.gguf").write_text("<html>not found</html>")
    expected = from_hub("wrong")
    source = expected["spec"]["source"]["huggingFace"]
    expected["spec"]["source"]["huggingFace"] = {
        name: value for name, value in {**source, **change}.items() if value is not None
    }
    kube.apply(expected)
    value = eventually(
        lambda: kube.get("llamamodel/wrong"),
        # A kubelet that is busy says first that it has not read the Secret yet.
        until=lambda observed: ready(observed)[1] == reason and says in message(observed),
        seconds=60,
        description=f"{reason}: {says}",
    )
    print(f"{reason}: {message(value)}")
    kube("delete", "llamamodel/wrong")


@pytest.mark.timeout(600)
def test_a_model_with_projector_draft_and_adapter_sees_drafts_and_serves(
    kube: Kubectl, hub: Hub
) -> None:
    """Each part from its own source; the projector and the adapter have weights of 0."""
    hub.bytes_per_second = 0
    write(hub.folder / "mmproj.gguf", *llava())
    adapter(hub.folder / "sql.gguf")
    seer = from_hub("seer", contextSize=2048, extraArgs=["-lv", "4"])
    source = seer["spec"]["source"]["huggingFace"]
    seer["spec"] |= {
        "projector": {"source": {"huggingFace": {**source, "file": "mmproj.gguf"}}},
        "draft": {"model": {"source": smollm2("x")["spec"]["source"], "maxTokens": 4}},
        "adapters": [
            {
                "name": "sql",
                "source": {"http": {"url": f"{hub.url}/plain/sql.gguf"}},
                "scale": "0.5",
            }
        ],
    }
    kube.apply(seer)
    kube.wait_ready("llamamodel/seer", seconds=300)
    status = kube.get("llamamodel/seer")["status"]
    assert "Vision" in status["model"]["capabilities"]
    assert {inspection["role"] for inspection in status["inspected"]} == {
        *("model", "projector", "draft", "adapter-sql")
    }
    memory = status["memory"]
    assert min(memory[f"{name}MiB"] for name in ("projector", "draft", "adapters")) > 0
    log = kube("logs", f"deployment/{deployment(kube, 'seer')}")
    caches = [float(match) for match in re.findall(r"KV buffer size = +([\d.]+) MiB", log)]
    assert caches == [memory["kvCacheMiB"]] * 2, "the model's own and the draft's"
    question = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    # Weights of 0 make the picture say nothing: the same words each time, and enough to draft.
    body = {"max_tokens": 16, "temperature": 0, "ignore_eos": True}
    body["messages"] = [{"role": "user", "content": question}]
    with kube.forwarded("service/seer") as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report["usage"]["prompt_tokens"] > 500, "the image became tokens"
    assert report["timings"]["draft_n"] > 0
    kube("delete", "llamamodel/seer")


def test_a_projector_named_as_a_model_is_told_where_it_belongs(kube: Kubectl, hub: Hub) -> None:
    write(hub.folder / "mmproj.gguf", *llava())
    wrong = from_hub("wrong")
    wrong["spec"]["source"]["huggingFace"]["file"] = "mmproj.gguf"
    kube.apply(wrong)
    value = eventually(
        lambda: kube.get("llamamodel/wrong"),
        until=lambda observed: ready(observed)[1] == "UnsupportedModel",
        seconds=60,
    )
    assert "name it in spec.projector.source" in message(value)
    kube("delete", "llamamodel/wrong")


def test_a_file_in_the_store_is_looked_at_where_it_is(kube: Kubectl) -> None:
    local = smollm2("local")
    del local["spec"]["memory"]
    kube.apply(local)
    kube.wait_ready("llamamodel/local", seconds=120)
    status = kube.get("llamamodel/local")["status"]
    assert status["memory"]["method"] == "Exact"
    assert status["files"][0]["node"] == status["nodeSummary"]
    kube("delete", "llamamodel/local")
    assert kube("get", "namespace", NAMESPACE)
