"""What `kubectl apply` takes and refuses, by the real API server: each refusal names its field."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hack.testbed.layout import REPOSITORY
from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.plan.engines.choice import engine_of
from tests.support.api import Api, Refused
from tests.support.resources import documents

Spec = dict[str, Any]
SAMPLES = [
    (path.parent.name, document)
    for path in sorted((REPOSITORY / "deploy/samples").rglob("*.yaml"))
    for document in documents(path)
    if document["apiVersion"].startswith("llama-halo.dev/")
]
NAMESPACE = "default"
LOCAL: Spec = {"local": {"path": "a/b.gguf"}}
HF: Spec = {"huggingFace": {"repo": "unsloth/Qwen3-GGUF", "file": "q.gguf"}}
MEMORY = {"gpu": "24Gi", "host": "2Gi"}
CPU: Spec = {"source": LOCAL, "backend": "CPU"}
MODELS = [{"name": "a", "modelRef": {"name": "a"}}]
PROVIDER = {"name": "p", "protocol": "OpenAI", "baseURL": "https://openrouter.example/v1"}


def lm(**spec: Any) -> Spec:
    return {"source": LOCAL, **spec}


def lmr(**spec: Any) -> Spec:
    return {"models": MODELS, **spec}


# spec -> a part of the refusal; the field it names comes first
INVALID_MODELS: dict[str, tuple[Spec, str]] = {
    "no source": ({}, "spec.source: Required"),
    "an empty source": ({"source": {}}, "source needs exactly one of huggingFace, http, local"),
    "two sources": ({"source": {**LOCAL, **HF}}, "source needs exactly one of"),
    "an unknown source": ({"source": {"s3": {}}}, 'unknown field "spec.source.s3"'),
    "an absolute path": (lm(source={"local": {"path": "/etc/x.gguf"}}), "local.path is relative"),
    "a path out of the store": (lm(source={"local": {"path": "a/../../x"}}), "never leaves it"),
    "an empty path": (lm(source={"local": {"path": ""}}), "spec.source.local.path"),
    "a path that ends in a blank": (
        lm(source={"local": {"path": "a.gguf "}}),
        "spec.source.local.path",
    ),
    "a repo without owner": (
        {"source": {"huggingFace": {"repo": "qwen", "file": "q.gguf"}}},
        "spec.source.huggingFace.repo",
    ),
    "a file that is no GGUF": (
        {"source": {"huggingFace": {"repo": "a/b", "file": "model.safetensors"}}},
        "spec.source.huggingFace.file",
    ),
    "a URL of another scheme": (
        {"source": {"http": {"url": "ftp://host/x.gguf"}}},
        "spec.source.http.url",
    ),
    "a checksum of another length": (
        {"source": {"http": {"url": "https://host/x.gguf", "sha256": "abc"}}},
        "spec.source.http.sha256",
    ),
    "an empty store": (lm(store={}), "store needs exactly one of"),
    "a relative store": (lm(store={"hostPath": {"path": "models"}}), "spec.store.hostPath.path"),
    "an unknown mode": (lm(mode="Chatting"), "spec.mode: Unsupported value"),
    "a context of text": (lm(contextSize="32k"), "spec.contextSize"),
    "a context of nothing": (lm(contextSize=0), "spec.contextSize"),
    "a negative context": (lm(contextSize=-1), "spec.contextSize"),
    "no slot": (lm(parallel=0), "spec.parallel"),
    "too many slots": (lm(parallel=257), "spec.parallel"),
    "an unknown cache type": (lm(cacheType={"k": "q3_0"}), "spec.cacheType.k: Unsupported value"),
    "quantized V without flash attention": (
        lm(cacheType={"v": "q8_0"}, flashAttention="Off"),
        "cacheType.v is quantized, which needs flash attention",
    ),
    "GPU layers by another word": (lm(gpuLayers="Most"), "spec.gpuLayers"),
    "negative GPU layers": (lm(gpuLayers=-1), "spec.gpuLayers"),
    "a micro batch over the batch": (
        lm(batchSize=256, microBatchSize=512),
        "microBatchSize must not exceed batchSize",
    ),
    "a micro batch over the usual batch": (
        lm(microBatchSize=4096),
        "microBatchSize must not exceed batchSize",
    ),
    "threads below one": (lm(threads=0), "spec.threads"),
    "a negative prompt cache": (lm(promptCacheMiB=-1), "spec.promptCacheMiB"),
    "flash attention by another word": (lm(flashAttention="on"), "spec.flashAttention"),
    "two ways to draft": (
        lm(draft={"mtp": {}, "model": {"source": LOCAL}}),
        "draft needs exactly one of",
    ),
    "two adapters of one name": (
        lm(adapters=[{"name": "a", "source": LOCAL}, {"name": "a", "source": LOCAL}]),
        "spec.adapters[1]: Duplicate value",
    ),
    "an adapter scale that is no number": (
        lm(adapters=[{"name": "a", "source": LOCAL, "scale": "one"}]),
        "spec.adapters[0].scale",
    ),
    "a flag that was removed": (
        lm(extraArgs=["--no-mmap"]),
        "extraArgs: --no-mmap was removed from llama-server",
    ),
    "a flag of a projector": (
        lm(extraArgs=["--mmproj", "x.gguf"]),
        "extraArgs: --mmproj is set by the operator",
    ),
    "an adapter with a colon in its path": (
        lm(adapters=[{"name": "sql", "source": {"local": {"path": "a:b.gguf"}}}]),
        "llama-server takes no path with a colon, comma or quote",
    ),
    "an adapter of the Hub with a comma in its name": (
        lm(
            adapters=[
                {"name": "sql", "source": {"huggingFace": {"repo": "a/b", "file": "a,b.gguf"}}}
            ]
        ),
        "llama-server takes no path with a colon, comma or quote",
    ),
    "a flag that was removed, with a value": (lm(extraArgs=["--mlock=1"]), "--mlock=1 was removed"),
    "a flag that a field owns": (
        lm(extraArgs=["--temp", "0.6", "--ctx-size", "1"]),
        "extraArgs: --ctx-size is set by the operator",
    ),
    "an API key on the command line": (
        lm(extraArgs=["--api-key", "secret"]),
        "extraArgs: --api-key is set by the operator",
    ),
    "another device by environment": (
        lm(env=[{"name": "LLAMA_ARG_DEVICE", "value": "none"}]),
        "env: LLAMA_ARG_DEVICE",
    ),
    "an environment name with a dash": (lm(env=[{"name": "A-B"}]), "spec.env[0].name"),
    "an environment entry with two values": (
        lm(env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "spec"}}}]),
        "an env entry has a value or a valueFrom",
    ),
    "one environment name twice": (
        lm(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        "spec.env[1]: Duplicate value",
    ),
    "an unknown backend": (lm(backend="CUDA"), "spec.backend: Unsupported value"),
    "an image without its command": (lm(image="x"), "image and command go together"),
    "a command without its image": (lm(command=["llama-server"]), "image and command go together"),
    "no device access": (lm(devices={}), "devices needs exactly one of"),
    "two device accesses": (
        lm(devices={"privileged": {}, "resource": {"name": "amd.com/gpu"}}),
        "devices needs exactly one of",
    ),
    "a device resource without a domain": (
        lm(devices={"resource": {"name": "gpu"}}),
        "spec.devices.resource.name",
    ),
    "a time limit for what does not wait": (
        lm(update={"timeout": "5m"}),
        "update.timeout is for update.mode WhenIdle: set that, or delete the timeout",
    ),
    "a claim of nothing": (lm(devices={"claim": {}}), "devices.claim needs exactly one of"),
    "devices for the CPU": ({**CPU, "devices": {"privileged": {}}}, "backend CPU takes no devices"),
    "GPU layers on the CPU": ({**CPU, "gpuLayers": 10}, "backend CPU has no GPU layers"),
    "GPU memory on the CPU": ({**CPU, "memory": MEMORY}, "backend CPU uses no GPU memory"),
    "memory that is no quantity": (lm(memory={"gpu": "abc"}), "spec.memory.gpu"),
    "negative memory": (lm(memory={"gpu": "-1Gi"}), "spec.memory.gpu"),
    "negative replicas": (lm(replicas=-1), "spec.replicas"),
    "on demand with two replicas": (
        lm(activation={"onDemand": {}}, replicas=2),
        "activation.onDemand runs at most one replica",
    ),
    "a duration of another form": (
        lm(activation={"onDemand": {"idleTimeout": "15 min"}}),
        "spec.activation.onDemand.idleTimeout",
    ),
    "one alias twice": (lm(aliases=["a", "a"]), "spec.aliases[1]: Duplicate value"),
    "an alias with a blank": (lm(aliases=["gpt 4"]), "spec.aliases[0]"),
    "an alias that is a pattern": (lm(aliases=["gpt-*"]), "spec.aliases[0]"),
    "memory among the pod's resources": (
        lm(pod={"resources": {"limits": {"memory": "1Gi"}}}),
        "pod.resources: memory is set from spec.memory",
    ),
    "a label of ours": (
        lm(pod={"labels": {"llama-halo.dev/model": "x"}}),
        "belong to the operator",
    ),
    "a toleration of an unknown effect": (
        lm(pod={"tolerations": [{"effect": "Never"}]}),
        "spec.pod.tolerations[0].effect",
    ),
    "an unknown field": (lm(contextsize=1), 'unknown field "spec.contextsize"'),
}
INVALID_NAMES = {
    "a name with a dot": ("llama-3.2-3b", "go into spec.aliases"),
    "a name that begins with a digit": ("3b", "starts with a letter"),
    "a name that is too long": ("a" * 41, "at most 40 characters"),
    "a name like a router's children": ("main-router", "not ending in -router"),
}


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _node_term(operator: str, *values: str) -> Spec:
    expression = {"key": "disk", "operator": operator, "values": list(values)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return lm(pod={"affinity": {"nodeAffinity": {REQUIRED: terms}}})


INVALID_MODELS |= {
    "an operator that needs values": (_node_term("In"), "In and NotIn need values"),
    "an operator that has none": (_node_term("Exists", "x"), "Exists and DoesNotExist have none"),
    "an operator that needs a number": (_node_term("Gt", "x"), "Gt and Lt need one whole number"),
    "an unknown operator": (_node_term("Like", "x"), "operator: Unsupported value"),
    "an affinity without a topology": (
        lm(pod={"affinity": {"podAntiAffinity": {REQUIRED: [{}]}}}),
        "topologyKey: Required value",
    ),
    "a field of an affinity to pods": (
        lm(pod={"affinity": {"podAffinity": {"x": {}}}}),
        'unknown field "spec.pod.affinity.podAffinity.x"',
    ),
    "an affinity of another kind": (
        lm(pod={"affinity": {"nodesAffinity": {}}}),
        'unknown field "spec.pod.affinity.nodesAffinity"',
    ),
}
INVALID_ROUTERS: dict[str, tuple[Spec, str]] = {
    "nothing to serve": ({}, "a router needs models or a modelSelector"),
    "no models": ({"models": []}, "spec.models"),
    "a model of nothing": ({"models": [{"name": "a"}]}, "exactly one of modelRef, provider"),
    "a model of two": (
        {"models": [{**MODELS[0], "provider": "p", "model": "m"}], "providers": [PROVIDER]},
        "exactly one of modelRef, provider",
    ),
    "a provider without its model": (
        {"models": [{"name": "a", "provider": "p"}], "providers": [PROVIDER]},
        "provider and model go together",
    ),
    "a provider that is not there": (
        {"models": [{"name": "a", "provider": "p", "model": "m"}]},
        "provider names no entry of providers",
    ),
    "one model name twice": (
        {"models": [MODELS[0], MODELS[0]]},
        "spec.models[1]: Duplicate value",
    ),
    "two engines": (lmr(engine={"gateway": {}, "llamaSwap": {}}), "engine needs exactly one of"),
    "no engine": (lmr(engine={}), "engine needs exactly one of"),
    "an unknown engine": (lmr(engine={"nginx": {}}), 'unknown field "spec.engine.nginx"'),
    "a route to nothing": (lmr(routes={"default": "b"}), "routes.default names no entry of models"),
    "a background route to nothing": (
        lmr(routes={"background": "b"}),
        "routes.background names no entry of models",
    ),
    "a long route to nothing": (
        lmr(routes={"longContext": {"model": "b"}}),
        "routes.longContext names no entry of models",
    ),
    "a fallback to nothing": (lmr(fallbacks={"a": ["b"]}), "fallbacks: every name must be"),
    "a provider of another protocol": (
        lmr(providers=[{**PROVIDER, "protocol": "Gemini"}]),
        "spec.providers[0].protocol",
    ),
    "a provider without a URL": (
        lmr(providers=[{**PROVIDER, "baseURL": "openrouter"}]),
        "spec.providers[0].baseURL",
    ),
    "a provider's key in its URL": (
        lmr(providers=[{**PROVIDER, "baseURL": "https://me:secret@host/v1"}]),
        "spec.providers[0].baseURL",
    ),
    "a provider's key in its query": (
        lmr(providers=[{**PROVIDER, "baseURL": "https://host/v1?key=secret"}]),
        "spec.providers[0].baseURL",
    ),
    "a node port of a ClusterIP": (
        lmr(service={"nodePort": 30000}),
        "service.nodePort needs type NodePort or LoadBalancer",
    ),
    "a port out of range": (lmr(service={"port": 70000}), "spec.service.port"),
    "a hold of another form": (lmr(hold={"timeout": "ten"}), "spec.hold.timeout"),
    "a selector of nothing": ({"modelSelector": {"matchLabels": {}}}, "spec.modelSelector"),
}

VALID_MODELS: dict[str, Spec] = {
    "local": lm(),
    "local in a folder": lm(source={"local": {"path": "a/b/c-00001-of-00003.gguf"}}),
    "blanks and letters": lm(source={"local": {"path": "größe (v2), [x].gguf"}}),
    "a name of the Hub": lm(
        source={"huggingFace": {"repo": "a/b", "file": "größe (v2), [x] 100%.GGUF"}}
    ),
    "dots in a name": lm(source={"local": {"path": "a..b/Qwen3.6.gguf"}}),
    "hugging face": {"source": HF},
    "hugging face with revision and token": {
        "source": {
            "huggingFace": {
                **HF["huggingFace"],
                "revision": "main",
                "tokenSecretRef": {"name": "hf", "key": "token"},
            }
        }
    },
    "http": {"source": {"http": {"url": "https://host:8443/a/x.gguf?y=1", "sha256": "a" * 64}}},
    "a store on the node": lm(store={"hostPath": {"path": "/srv/models"}}),
    "a store in a claim": lm(store={"persistentVolumeClaim": {"claimName": "models"}}),
    "every mode": lm(mode="Transcription"),
    "a large context": lm(contextSize=1048576, parallel=8),
    "quantized cache": lm(cacheType={"k": "q8_0", "v": "iq4_nl"}),
    "quantized K without flash attention": lm(cacheType={"k": "q8_0"}, flashAttention="Off"),
    "all layers by word": lm(gpuLayers="All"),
    "some layers": lm(gpuLayers=40),
    "no layers": lm(gpuLayers=0),
    "batches": lm(batchSize=4096, microBatchSize=2048),
    "micro batch equal to batch": lm(batchSize=512, microBatchSize=512),
    "no prompt cache": lm(promptCacheMiB=0),
    "flash attention": lm(flashAttention="On"),
    "a projector": lm(projector={"source": LOCAL}),
    "a draft model": lm(draft={"model": {"source": LOCAL, "maxTokens": 3}}),
    "a draft head": lm(draft={"mtp": {}}),
    "adapters": lm(adapters=[{"name": "sql", "source": HF, "scale": "0.5"}]),
    "a chat template": lm(chatTemplate={"configMapKeyRef": {"name": "t", "key": "x.jinja"}}),
    "reasoning without a budget": lm(reasoning={"format": "Auto", "budgetTokens": -1}),
    "further flags": lm(extraArgs=["--temp", "0.6", "--no-warmup"]),
    "environment": lm(env=[{"name": "A"}, {"name": "B", "value": "1"}]),
    "environment from a Secret": lm(
        env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    ),
    "Vulkan": lm(backend="Vulkan"),
    "ROCm": lm(backend="ROCm"),
    "CPU": {**CPU, "threads": 8, "memory": {"host": "8Gi"}, "gpuLayers": 0},
    "an image with its command": lm(image="reg/x:1@sha256:abc", command=["/app/llama-server"]),
    "privileged": lm(devices={"privileged": {}}),
    "a device resource": lm(devices={"resource": {"name": "squat.ai/dri-render", "count": 2}}),
    "a claim": lm(devices={"claim": {"name": "gpu"}}),
    "a claim template": lm(devices={"claim": {"templateName": "gpu"}}),
    "memory": lm(memory=MEMORY),
    "memory as a number": lm(memory={"gpu": 25769803776, "host": "2.5Gi"}),
    "no replicas": lm(replicas=0),
    "replicas": lm(replicas=3),
    "on demand": lm(
        activation={"onDemand": {"idleTimeout": "1h30m", "priority": -5, "group": "big"}}
    ),
    "an update when idle": lm(update={"mode": "WhenIdle", "timeout": "10m"}),
    "aliases": lm(aliases=["claude-sonnet-4-5", "llama-3.2-3b", "qwen/qwen3:latest"]),
    "no verification": lm(verify={"toolCalling": "Off"}),
    "suspended": lm(suspend=True),
    "a pod": lm(
        pod={
            "labels": {"team": "core"},
            "annotations": {"a": "b"},
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"podAffinity": {}},
            "priorityClassName": "high",
            "imagePullSecrets": [{"name": "reg"}],
            "resources": {"requests": {"cpu": 2}},
        }
    ),
}
VALID_ROUTERS: dict[str, Spec] = {
    "one model": lmr(),
    "the gateway by name": lmr(engine={"gateway": {}}),
    "Claude Code Router": lmr(engine={"claudeCodeRouter": {"version": "2.0.0"}}),
    "LiteLLM": lmr(engine={"liteLLM": {}}),
    "llama-swap": lmr(engine={"llamaSwap": {}}),
    "a selector": {"modelSelector": {"matchLabels": {"tier": "agents"}}},
    "a selector and routes to what it may find": {
        "modelSelector": {"matchLabels": {"tier": "agents"}},
        "routes": {"default": "anything"},
    },
    "aliases and patterns": {"models": [{**MODELS[0], "aliases": ["claude-*", "gpt-4o"]}]},
    "a provider": {
        "models": [*MODELS, {"name": "cloud", "provider": "p", "model": "x/y"}],
        "providers": [PROVIDER],
        "fallbacks": {"a": ["cloud"]},
    },
    "every route": lmr(
        routes={
            **dict.fromkeys(("default", "background", "think", "webSearch", "image"), "a"),
            "subagent": "a",
            "longContext": {"model": "a", "thresholdTokens": 60000},
        }
    ),
    "auth": lmr(auth={"secretRef": {"name": "keys", "keys": ["alice"]}}),
    "hold": lmr(hold={"timeout": "10m", "pingInterval": "15s"}),
    "a node port": lmr(service={"type": "NodePort", "nodePort": 30080}),
    "a load balancer": lmr(service={"type": "LoadBalancer", "loadBalancerClass": "a/b"}),
    "a host port": lmr(hostPort=8080, replicas=2),
    "a pod of another image": lmr(pod={"image": "reg/x:1"}),
}


def resource(kind: str, spec: Spec, name: str = "coder") -> dict[str, Any]:
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": copy.deepcopy(spec),
    }


@pytest.mark.parametrize("case", INVALID_MODELS)
def test_an_invalid_llamamodel_is_refused(api: Api, case: str) -> None:
    spec, says = INVALID_MODELS[case]
    with pytest.raises(Refused) as refusal:
        api.create(resource("LlamaModel", spec), dry_run=True)
    assert says in str(refusal.value)


@pytest.mark.parametrize("case", INVALID_NAMES)
def test_an_invalid_name_is_refused(api: Api, case: str) -> None:
    name, says = INVALID_NAMES[case]
    with pytest.raises(Refused) as refusal:
        api.create(resource("LlamaModel", lm(), name), dry_run=True)
    assert says in str(refusal.value)


@pytest.mark.parametrize("case", INVALID_ROUTERS)
def test_an_invalid_modelrouter_is_refused(api: Api, case: str) -> None:
    spec, says = INVALID_ROUTERS[case]
    with pytest.raises(Refused) as refusal:
        api.create(resource("ModelRouter", spec), dry_run=True)
    assert says in str(refusal.value)


@pytest.mark.parametrize("case", VALID_MODELS)
def test_a_valid_llamamodel_is_accepted(api: Api, case: str) -> None:
    api.create(resource("LlamaModel", VALID_MODELS[case]), dry_run=True)


@pytest.mark.parametrize("case", VALID_ROUTERS)
def test_a_valid_modelrouter_is_accepted(api: Api, case: str) -> None:
    api.create(resource("ModelRouter", VALID_ROUTERS[case]), dry_run=True)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(INVALID_MODELS) + len(INVALID_NAMES) + len(INVALID_ROUTERS) >= 45
    assert len(VALID_MODELS) + len(VALID_ROUTERS) >= 45


@pytest.mark.parametrize(
    "sample",
    [item for _, item in SAMPLES],
    ids=[f"{of}/{it['metadata']['name']}" for of, it in SAMPLES],
)
def test_a_sample_is_taken_by_the_api_server_and_by_the_operator(api: Api, sample: Spec) -> None:
    expected = resource(sample["kind"], sample["spec"], sample["metadata"]["name"])
    api.create(expected, dry_run=True)
    if sample["kind"] == "LlamaModel":
        LlamaModelSpec.model_validate(sample["spec"])
    else:
        spec = ModelRouterSpec.model_validate(sample["spec"])
        assert engine_of(spec).refusal(spec) is None
