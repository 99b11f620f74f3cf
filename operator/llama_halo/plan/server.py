"""LlamaModel -> the llama-server container: argv, environment, devices, memory.

The load mode is set by environment, because the flags were removed upstream and unknown variables
are ignored. The device is pinned, because a server that does not find its GPU would silently serve
from the CPU. `--cache-ram` is always set, because its default is 8 GiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_halo.api.llamamodel import Backend, LlamaModelSpec
from llama_halo.api.pod import EnvVar
from llama_halo.contract.model import Mode
from llama_halo.gguf.companions import PROJECTOR
from llama_halo.plan import chat_template, whisper
from llama_halo.plan.facts import Defaults, ImageProfile, Sizing
from llama_halo.plan.model_files import DRAFT, MODEL, adapter_role, is_transcription
from llama_halo.plan.quantity import canonical_memory, canonical_quantity
from llama_halo.plan.sizing import batch_sizes, drafted_tokens, prompt_cache_mib

PORT = 8080
MODELS_MOUNT = "/models"
ALL_LAYERS = 999
DEVICE = {Backend.VULKAN: "Vulkan0", Backend.ROCM: "ROCm0", Backend.CPU: "none"}
CPU_USER = 65532
NO_IMAGE = ImageProfile("", ())
"""For a backend without a default image: the spec must name one."""
DEFAULT_THREADS = 4

_MODE_WORDS = {Mode.EMBEDDING: ("--embeddings",), Mode.RERANK: ("--reranking",)}
_REASONING_FORMAT = {"Auto": "auto", "None": "none", "DeepSeek": "deepseek"}
# llama-server reads the weights once instead of mapping the file: see "Load mode" in
# docs/spec/llamamodel.md. Three spellings, for builds before, around and after the change.
_LOAD_MODE = {
    "LLAMA_ARG_LOAD_MODE": "none",
    "LLAMA_ARG_MMAP": "0",
    "LLAMA_ARG_NO_MMAP": "1",
}


def backend_of(spec: LlamaModelSpec) -> Backend:
    """Return the backend; Vulkan unless the spec says otherwise."""
    return spec.backend or Backend.VULKAN


def arguments(
    name: str, spec: LlamaModelSpec, paths: Mapping[str, str], sizing: Sizing
) -> list[str]:
    """Return llama-server's argv; extraArgs come last, so they win."""
    cache = spec.cache_type
    batch, micro_batch = batch_sizes(spec, sizing.context_size)
    argv = [
        *("--host", "0.0.0.0"),
        *("--port", str(PORT)),
        *("--alias", name),
        *("--model", f"{MODELS_MOUNT}/{paths[MODEL]}"),
        *("--ctx-size", str(sizing.context_size)),
        *("--parallel", str(spec.parallel or 1)),
        "--kv-unified",
        *("--n-gpu-layers", str(_gpu_layers(spec))),
        *("--flash-attn", (spec.flash_attention or "Auto").lower()),
        *("--batch-size", str(batch)),
        *("--ubatch-size", str(micro_batch)),
        *("--cache-type-k", (cache and cache.k) or "f16"),
        *("--cache-type-v", (cache and cache.v) or "f16"),
        *("--cache-ram", str(prompt_cache_mib(spec))),
        *("--fit", "off"),
        "--metrics",
        "--no-webui",
        *_MODE_WORDS.get(spec.mode or Mode.CHAT, ()),
        *(("--pooling", spec.pooling.lower()) if spec.pooling else ()),
    ]
    argv += _companion_arguments(spec, paths, sizing)
    threads = _threads(spec)
    if threads:
        argv += ["--threads", str(threads)]
    argv += chat_template.arguments(spec)
    if spec.reasoning:
        argv += ["--reasoning-format", _REASONING_FORMAT[spec.reasoning.format or "Auto"]]
        if spec.reasoning.budget_tokens is not None:
            argv += ["--reasoning-budget", str(spec.reasoning.budget_tokens)]
    return argv + list(spec.extra_args or [])


def _companion_arguments(
    spec: LlamaModelSpec, paths: Mapping[str, str], sizing: Sizing
) -> list[str]:
    """Return the arguments of projector, draft and adapters."""
    argv: list[str] = []
    if PROJECTOR in paths:
        argv += ["--mmproj", f"{MODELS_MOUNT}/{paths[PROJECTOR]}"]
        if backend_of(spec) is Backend.CPU:
            argv.append("--no-mmproj-offload")
    if spec.draft:
        argv += _draft(spec, paths, sizing)
    if spec.adapters:
        scaled = [
            f"{MODELS_MOUNT}/{paths[adapter_role(adapter.name)]}:{adapter.scale or '1.0'}"
            for adapter in spec.adapters
        ]
        # llama-server uses only the last of a repeated flag, so one flag names all adapters.
        argv += ["--lora-scaled", ",".join(scaled)]
    return argv


def _draft(spec: LlamaModelSpec, paths: Mapping[str, str], sizing: Sizing) -> list[str]:
    cache = spec.cache_type
    argv = ["--spec-type", sizing.draft_type] if sizing.draft_type else []
    if DRAFT in paths:
        argv += ["--model-draft", f"{MODELS_MOUNT}/{paths[DRAFT]}"]
        argv += ["--n-gpu-layers-draft", str(_gpu_layers(spec))]
    return [
        *argv,
        *("--spec-draft-n-max", str(drafted_tokens(spec))),
        *("--cache-type-k-draft", (cache and cache.k) or "f16"),
        *("--cache-type-v-draft", (cache and cache.v) or "f16"),
    ]


def _arguments(
    name: str, spec: LlamaModelSpec, paths: Mapping[str, str], sizing: Sizing
) -> list[str]:
    if not is_transcription(spec):
        return arguments(name, spec, paths, sizing)
    return whisper.arguments(spec, paths, mount=MODELS_MOUNT, port=PORT, threads=_threads(spec))


def environment(spec: LlamaModelSpec) -> list[dict[str, Any]]:
    """Return the container's environment; an entry of the spec replaces ours of the same name."""
    backend = backend_of(spec)
    ours = {"HOME": "/tmp"}  # noqa: S108  (an emptyDir)
    if not is_transcription(spec):
        ours["LLAMA_ARG_DEVICE"] = DEVICE[backend]
    if not is_transcription(spec) and backend is not Backend.CPU:
        ours |= _LOAD_MODE
    theirs = {entry.name: _env_entry(entry) for entry in spec.env or ()}
    merged = {name: {"name": name, "value": value} for name, value in ours.items()} | theirs
    return list(merged.values())


def container(
    name: str,
    spec: LlamaModelSpec,
    defaults: Defaults,
    *,
    paths: Mapping[str, str],
    sizing: Sizing,
) -> dict[str, Any]:
    """Return the server's complete container; `paths` are its files by role, below the store."""
    images = defaults.whisper_images if is_transcription(spec) else defaults.images
    profile = images.get(backend_of(spec), NO_IMAGE)
    return {
        "name": "whisper-server" if is_transcription(spec) else "llama-server",
        "image": spec.image or profile.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(spec.command or profile.command),
        "args": _arguments(name, spec, paths, sizing),
        "env": environment(spec),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # With a period of 10 s, a wake-up would take up to 9 s longer than the server needs.
        "startupProbe": _probe(period=1, failures=defaults.startup_seconds),
        "readinessProbe": _probe(period=5, failures=3),
        # whisper-server has few threads and transcribes one recording at a time.
        "livenessProbe": _probe(period=30, failures=20 if is_transcription(spec) else 6),
        "resources": _resources(spec, sizing),
        "securityContext": _container_security(spec),
        # Carries the last log lines of a crash into the pod's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS_MOUNT, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *_device_mounts(spec),
            *chat_template.mounts(spec),
        ],
    }


def volumes(spec: LlamaModelSpec, defaults: Defaults) -> list[dict[str, Any]]:
    """Return the pod's volumes: the store, scratch space, and the devices of a privileged pod."""
    pod_volumes: list[dict[str, Any]] = [
        store_volume(spec, defaults),
        {"name": "tmp", "emptyDir": {}},
    ]
    pod_volumes += [
        {"name": name, "hostPath": {"path": f"/dev/{name}", "type": kind}}
        for name, kind in _host_devices(spec)
    ]
    return pod_volumes


def store_volume(spec: LlamaModelSpec, defaults: Defaults) -> dict[str, Any]:
    """Return the volume `models`: the claim, else the host path, else the default store."""
    if spec.store and spec.store.persistent_volume_claim:
        claim = spec.store.persistent_volume_claim.claim_name
        return {"name": "models", "persistentVolumeClaim": {"claimName": claim}}
    path = spec.store.host_path.path if spec.store and spec.store.host_path else None
    host_path = {"path": path or defaults.store_path, "type": "DirectoryOrCreate"}
    return {"name": "models", "hostPath": host_path}


def pod_security(spec: LlamaModelSpec) -> dict[str, Any]:
    """Return the pod's security context; GPU images run as root, which owns the device nodes."""
    base: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if backend_of(spec) is Backend.CPU:
        return {**base, "runAsNonRoot": True, "runAsUser": CPU_USER, "runAsGroup": CPU_USER}
    return base


def resource_claims(spec: LlamaModelSpec) -> list[dict[str, Any]]:
    """Return the pod's ResourceClaims: one if the spec asks for devices by claim, else none."""
    claim = spec.devices.claim if spec.devices else None
    if claim is None:
        return []
    if claim.template_name:
        return [{"name": "gpu", "resourceClaimTemplateName": claim.template_name}]
    return [{"name": "gpu", "resourceClaimName": claim.name}]


def _gpu_layers(spec: LlamaModelSpec) -> int:
    if backend_of(spec) is Backend.CPU:
        return 0
    return ALL_LAYERS if spec.gpu_layers in (None, "All") else int(spec.gpu_layers)


def _threads(spec: LlamaModelSpec) -> int | None:
    if backend_of(spec) is Backend.CPU:
        return spec.threads or DEFAULT_THREADS
    return spec.threads


def _env_entry(entry: EnvVar) -> dict[str, Any]:
    if entry.value_from is None:
        return {"name": entry.name, **({"value": entry.value} if entry.value else {})}
    return {
        "name": entry.name,
        "valueFrom": entry.value_from.model_dump(by_alias=True, exclude_none=True),
    }


def _probe(*, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _resources(spec: LlamaModelSpec, sizing: Sizing) -> dict[str, Any]:
    # GPU memory is ordinary memory that no cgroup accounts for. The request makes the scheduler
    # count it. The limit includes it in case a kernel starts to charge it.
    memory = canonical_memory(sizing.gpu_mib + sizing.host_mib)
    cores = str(_threads(spec)) if backend_of(spec) is Backend.CPU else "1"
    extra = spec.pod.resources if spec.pod else None
    requests = {"cpu": cores, "memory": memory}
    limits = {"memory": memory}
    if spec.devices and spec.devices.resource:
        count = str(spec.devices.resource.count or 1)
        requests[spec.devices.resource.name] = count
        limits[spec.devices.resource.name] = count
    if extra:
        requests |= {key: canonical_quantity(q) for key, q in (extra.requests or {}).items()}
        limits |= {key: canonical_quantity(q) for key, q in (extra.limits or {}).items()}
    resources: dict[str, Any] = {"requests": requests, "limits": limits}
    if resource_claims(spec):
        resources["claims"] = [{"name": "gpu"}]
    return resources


def _container_security(spec: LlamaModelSpec) -> dict[str, Any]:
    if _privileged(spec):
        return {"privileged": True}
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _device_mounts(spec: LlamaModelSpec) -> list[dict[str, Any]]:
    return [{"name": name, "mountPath": f"/dev/{name}"} for name, _ in _host_devices(spec)]


def _host_devices(spec: LlamaModelSpec) -> tuple[tuple[str, str], ...]:
    """Return the name below /dev and the type of each device of a privileged pod.

    A kernel without CONFIG_HSA_AMD has no /dev/kfd, which ROCm alone needs.
    """
    if not _privileged(spec):
        return ()
    graphics = ("dri", "Directory")
    is_rocm = backend_of(spec) is Backend.ROCM
    return (("kfd", "CharDevice"), graphics) if is_rocm else (graphics,)


def _privileged(spec: LlamaModelSpec) -> bool:
    """Tell whether the container is privileged and mounts the devices by hostPath.

    That is the default for a GPU, because it needs no device plugin.
    """
    if backend_of(spec) is Backend.CPU:
        return False
    return spec.devices is None or spec.devices.privileged is not None
