"""Models that do not chat, on a real node: a real embedding model, and words for a wrong one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from hack.testbed import images, minilm, whisper
from llama_halo.plan.quantity import mebibytes
from tests.support.api import eventually, ready
from tests.support.kubectl import Kubectl
from tests.support.manifests import router, smollm2

Json = dict[str, Any]


@pytest.fixture(scope="module")
def url(kube: Kubectl) -> Iterator[str]:
    """A router before an embedding model that sleeps, it as a reranker, and one that chats."""
    for name in ("minilm", "whisper"):
        kube.cluster.install_model(name)
    kube.cluster.load_image(images.WHISPER_IMAGE)
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    source = {"local": {"path": f"minilm/{minilm.MODEL_FILE}"}}
    more: Json = {"source": source, "contextSize": 512, "memory": {"host": "512Mi"}}
    asleep = {"onDemand": {"minResident": "0s", "idleTimeout": "5s"}}
    kube.apply(smollm2("vectors", **more, mode="Embedding", activation=asleep))
    kube.apply(smollm2("judge", **more, mode="Rerank"))
    kube.apply(smollm2("talker"))
    kube.apply(ears())
    names = ("vectors", "judge", "talker", "ears")
    models = [{"name": name, "modelRef": {"name": name}} for name in names]
    front = router(models=models, routes={"default": "talker"})
    front["metadata"]["name"] = "modes"
    kube.apply(front)
    kube.wait_ready(*(f"llamamodel/{name}" for name in names), "modelrouter/modes")
    with kube.forwarded("service/modes-router") as value:
        yield value
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")


def ears() -> Json:
    """Return a LlamaModel of a small real model of whisper.cpp, that sleeps."""
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": {"name": "ears"},
        "spec": {
            "source": {"local": {"path": f"whisper/{whisper.MODEL_FILE}"}},
            "mode": "Transcription",
            "backend": "CPU",
            "threads": 2,
            "image": images.WHISPER_IMAGE,
            "command": ["whisper-server"],
            "activation": {"onDemand": {"minResident": "0s", "idleTimeout": "5s"}},
            "pod": {"resources": {"requests": {"cpu": "100m"}}},
        },
    }


def _alike(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (
        math.hypot(*one) * math.hypot(*other)
    )


def test_an_embedding_model_wakes_and_tells_what_is_alike(kube: Kubectl, url: str) -> None:
    eventually(
        lambda: ready(kube.get("llamamodel/vectors")),
        until=lambda value: value[1] == "Idle",
        seconds=60,
        description="it sleeps",
    )
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=120)
    arguments = ["A cat sits on the mat.", "A kitten lies on a rug.", "Shares fell in Tokyo."]
    reply = client.embeddings.create(model="vectors", input=arguments, encoding_format="float")
    cat, kitten, shares = (item.embedding for item in reply.data)
    assert len(cat) == 384
    assert _alike(cat, kitten) > _alike(cat, shares) + 0.2
    # 512 tokens are one batch, whatever llama-server's own default is.
    long = client.embeddings.create(model="vectors", input="word " * 500, encoding_format="float")
    assert long.usage.prompt_tokens > 500


def test_a_reranker_scores_documents(url: str) -> None:
    """The model was trained for vectors: what it says of the order means nothing."""
    body = {"model": "judge", "query": "cats", "documents": ["A cat.", "Shares fell."]}
    answer = httpx.post(f"{url}/v1/rerank", json=body, timeout=60).raise_for_status().json()
    assert {result["index"] for result in answer["results"]} == {0, 1}
    assert all(isinstance(result["relevance_score"], float) for result in answer["results"])


def test_a_recording_is_written_down_by_a_model_that_slept(kube: Kubectl, url: str) -> None:
    cr = kube.get("llamamodel/ears")
    assert ready(cr)[1] == "Idle"
    assert cr["status"]["model"]["architecture"] == "whisper"
    assert cr["status"]["memory"]["method"] == "UpperBound"
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=120)
    with whisper.speech().open("rb") as recording:
        reply = client.audio.transcriptions.create(model="ears", file=recording)
    assert "fellow Americans" in reply.text
    with whisper.speech().open("rb") as recording:
        text = client.audio.transcriptions.create(
            model="ears", file=recording, response_format="text"
        )
    assert "fellow Americans" in str(text)
    with pytest.raises(openai.BadRequestError, match="model ears has mode Transcription"):
        client.embeddings.create(model="ears", input="x", encoding_format="float")
    (pod,) = kube.list("pods", "llama-halo.dev/model=ears")
    reserved = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert mebibytes(reserved) == cr["status"]["memory"]["totalMiB"]


def test_what_a_model_is_not_for_is_said_in_a_sentence(kube: Kubectl, url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="model vectors has mode Embedding"):
        client.chat.completions.create(
            model="vectors", messages=[{"role": "user", "content": "hi"}]
        )
    with pytest.raises(openai.BadRequestError, match="model talker has mode Chat"):
        client.embeddings.create(model="talker", input="x", encoding_format="float")
    shown = kube("get", "llamamodel/vectors", "-o", "jsonpath={.status.conditions[*].type}")
    assert "ToolCalling" not in shown
