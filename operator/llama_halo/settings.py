"""The operator's settings, all from environment variables that begin with LLAMA_HALO_."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llama_halo.api.llamamodel import Backend
from llama_halo.api.schema import DURATION
from llama_halo.errors import SettingsError
from llama_halo.plan.facts import Defaults, ImageProfile, PlacementScope
from llama_halo.plan.quantity import canonical_memory, mebibytes, seconds
from llama_halo.plan.restrictions import Restrictions

PREFIX = "LLAMA_HALO_"
MAX_DIGITS = 9

# Pinned builds. A change here rolls every model that sets no image of its own.
DEFAULT_IMAGES = {
    Backend.VULKAN: ImageProfile(
        "ghcr.io/ggml-org/llama.cpp:server-vulkan-b11434", ("/app/llama-server",)
    ),
    Backend.ROCM: ImageProfile(
        "docker.io/kyuz0/amd-strix-halo-toolboxes:rocm-7.14", ("llama-server",)
    ),
    Backend.CPU: ImageProfile("ghcr.io/ggml-org/llama.cpp:server-b11434", ("/app/llama-server",)),
}


DEFAULT_WHISPER_IMAGES = {
    Backend.VULKAN: ImageProfile("ghcr.io/ggml-org/whisper.cpp:main-vulkan", ("whisper-server",)),
    Backend.CPU: ImageProfile("ghcr.io/ggml-org/whisper.cpp:main", ("whisper-server",)),
}
DEFAULT_ENGINE_IMAGES = {
    "claudeCodeRouter": "ghcr.io/llama-halo/claude-code-router:{version}",
    "liteLLM": "ghcr.io/llama-halo/litellm:{version}",
    "llamaSwap": "ghcr.io/llama-halo/llama-swap:{version}",
}
_ENGINE_SETTINGS = {
    "CLAUDE_CODE_ROUTER_IMAGE": "claudeCodeRouter",
    "LITELLM_IMAGE": "liteLLM",
    "LLAMA_SWAP_IMAGE": "llamaSwap",
}


@dataclass(frozen=True)
class Settings:
    """Settings of one installation."""

    namespaces: tuple[str, ...] = ()
    """Namespaces that the operator serves; empty means all."""
    own_namespace: str = "llama-halo-system"
    identity: str = "llama-halo-operator"
    """The pod's name: holder of the identity Lease, and reporting instance of Events."""
    image: str = ""
    """The operator's image; gateway pods and Jobs run it too."""
    store_path: str = "/var/lib/llama-halo/models"
    store_reserve: str = "15%"
    """Of a node's disk that downloads leave free, a share or a size: the kubelet's own thresholds
    for evictions are 10 % of its disk and 15 % of the images' disk."""
    images: Mapping[Backend, ImageProfile] = field(default_factory=lambda: dict(DEFAULT_IMAGES))
    whisper_images: Mapping[Backend, ImageProfile] = field(
        default_factory=lambda: dict(DEFAULT_WHISPER_IMAGES)
    )
    engine_images: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_ENGINE_IMAGES))
    """By engine; `{version}` is replaced by the version in the ModelRouter."""
    gpu_reserve_mib: int = 8192
    """Memory that the GPU budget leaves free on nodes without a budget annotation."""
    restrictions: Restrictions = field(default_factory=Restrictions)
    placement_scope: PlacementScope = PlacementScope.NAMESPACE
    """Where group and priority of models on demand apply."""
    startup_seconds: int = 3600
    """How long llama-server may load before the kubelet restarts it."""
    cluster_domain: str = "cluster.local"
    hub_endpoint: str = ""
    """URL of a Hugging Face Hub mirror for the inspect and fetch Jobs; empty means the Hub."""
    port: int = 8080
    workers: int = 8
    log_level: str = "INFO"

    def defaults(self) -> Defaults:
        """Return the settings that plans depend on."""
        return Defaults(
            images=self.images,
            store_path=self.store_path,
            store_reserve=self.store_reserve,
            gateway_image=self.image,
            whisper_images=self.whisper_images,
            engine_images=self.engine_images,
            startup_seconds=self.startup_seconds,
            cluster_domain=self.cluster_domain,
            hub_endpoint=self.hub_endpoint,
        )


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings; raises `SettingsError`, which names the variable and the fix."""
    own = {
        name.removeprefix(PREFIX): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    settings = Settings(
        namespaces=_listed(own, "NAMESPACES"),
        own_namespace=own.pop("POD_NAMESPACE", Settings.own_namespace),
        identity=own.pop("POD_NAME", Settings.identity),
        image=own.pop("IMAGE", ""),
        store_path=own.pop("STORE_PATH", Settings.store_path),
        store_reserve=_reserve(own, "STORE_RESERVE", Settings.store_reserve),
        images=_images(own, DEFAULT_IMAGES, ""),
        whisper_images=_images(own, DEFAULT_WHISPER_IMAGES, "WHISPER_"),
        engine_images={
            **DEFAULT_ENGINE_IMAGES,
            **{engine: own.pop(name) for name, engine in _ENGINE_SETTINGS.items() if name in own},
        },
        gpu_reserve_mib=_memory(own, "GPU_RESERVE", Settings.gpu_reserve_mib),
        restrictions=_restrictions(own),
        placement_scope=_scope(own, "PLACEMENT_SCOPE", Settings.placement_scope),
        startup_seconds=_duration(own, "STARTUP_TIMEOUT", Settings.startup_seconds),
        cluster_domain=own.pop("CLUSTER_DOMAIN", Settings.cluster_domain),
        hub_endpoint=own.pop("HF_ENDPOINT", ""),
        port=_number(own, "PORT", Settings.port),
        workers=_number(own, "WORKERS", Settings.workers),
        log_level=own.pop("LOG_LEVEL", Settings.log_level).upper(),
    )
    if own:
        names = ", ".join(PREFIX + name for name in sorted(own))
        raise SettingsError(f"{names}: no such setting; docs/spec/settings.md lists them")
    if not settings.image:
        raise SettingsError(
            f"{PREFIX}IMAGE is not set: give the operator's own image, which gateways run too"
        )
    return settings


def _images(
    own: dict[str, str], default: Mapping[Backend, ImageProfile], prefix: str
) -> dict[Backend, ImageProfile]:
    images = dict(default)
    for backend in Backend:
        name = f"{prefix}{backend.upper()}"
        image, command = own.pop(f"{name}_IMAGE", ""), own.pop(f"{name}_COMMAND", "")
        if bool(image) != bool(command):
            raise SettingsError(
                f"{PREFIX}{name}_IMAGE and {PREFIX}{name}_COMMAND go together: set both"
            )
        if image:
            images[backend] = ImageProfile(image, tuple(command.split()))
    return images


def _restrictions(own: dict[str, str]) -> Restrictions:
    default = Restrictions()
    return Restrictions(
        privileged=_switch(own, "ALLOW_PRIVILEGED", default.privileged),
        images=_listed(own, "ALLOWED_IMAGES"),
        store_paths=_listed(own, "ALLOWED_STORE_PATHS"),
        service_accounts=_switch(own, "ALLOW_SERVICE_ACCOUNTS", default.service_accounts),
        secret_prefix=own.pop("SECRET_PREFIX", default.secret_prefix),
        http_keys=_switch(own, "ALLOW_HTTP_KEYS", default.http_keys),
    )


def _listed(own: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(own.pop(name, "").replace(",", " ").split())


def _switch(own: dict[str, str], name: str, default: bool) -> bool:
    text = own.pop(name, str(default)).lower()
    if text not in ("true", "false"):
        raise SettingsError(f"{PREFIX}{name}={text}: must be true or false")
    return text == "true"


def _number(own: dict[str, str], name: str, default: int) -> int:
    text = own.pop(name, str(default))
    if not text.isdecimal() or len(text) > MAX_DIGITS or int(text) < 1:
        raise SettingsError(f"{PREFIX}{name}={text}: must be a whole number above 0")
    return int(text)


def _scope(own: dict[str, str], name: str, default: PlacementScope) -> PlacementScope:
    text = own.pop(name, default)
    try:
        return PlacementScope(text)
    except ValueError as error:
        choices = " or ".join(PlacementScope)
        raise SettingsError(f"{PREFIX}{name}={text}: must be {choices}") from error


def _duration(own: dict[str, str], name: str, default_seconds: int) -> int:
    text = own.pop(name, f"{default_seconds}s")
    if not re.fullmatch(DURATION, text):
        raise SettingsError(f"{PREFIX}{name}={text}: must be a duration like 1h30m or 90s")
    duration = int(seconds(text))
    if duration < 1:
        raise SettingsError(f"{PREFIX}{name}={text}: must be at least 1s")
    return duration


def _reserve(own: dict[str, str], name: str, default: str) -> str:
    if re.fullmatch(r"[0-9]{1,2}%", own.get(name, default)):
        return own.pop(name, default)
    try:
        return canonical_memory(_memory(own, name, 0))
    except SettingsError as error:
        raise SettingsError(f"{error}, or a share of the disk like 15%") from error


def _memory(own: dict[str, str], name: str, default_mib: int) -> int:
    text = own.pop(name, f"{default_mib}Mi")
    try:
        mib = mebibytes(text)
    except (ArithmeticError, ValueError) as error:
        raise SettingsError(f"{PREFIX}{name}={text}: must be a quantity like 8Gi") from error
    if mib < 0:
        raise SettingsError(f"{PREFIX}{name}={text}: must not be negative")
    return mib
