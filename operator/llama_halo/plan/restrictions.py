"""What an administrator forbids to writers of LlamaModels and ModelRouters.

A writer of either kind reaches whatever its pods reach, without permission to create pods or to
read Secrets. The chart renders ValidatingAdmissionPolicies from the same values; this check also
refuses what was written before the policies existed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from llama_halo.api.llamamodel import Backend, LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec

_SECRETS = ("secretKeyRef", "tokenSecretRef", "headersSecretRef", "apiKeySecretRef", "secretRef")
_URLS = {"url": "headersSecretRef", "baseURL": "apiKeySecretRef"}
"""Fields with a URL, and the field with the Secret that is sent there."""


@dataclass(frozen=True)
class Restrictions:
    """Without restrictions, the defaults, a writer may use everything."""

    privileged: bool = True
    """Whether a model may get its GPU by a privileged pod."""
    images: tuple[str, ...] = ()
    """Prefixes of the images that a resource may name; empty means any. Defaults are not named."""
    store_paths: tuple[str, ...] = ()
    """Directories of nodes, with all below them, that may be a store; empty means any."""
    service_accounts: bool = True
    """Whether pods may have a ServiceAccount that exists already."""
    secret_prefix: str = ""
    """What the names of Secrets must begin with: the operator cannot read their labels."""
    http_keys: bool = True
    """Whether a key or header of a Secret may be sent to an `http://` URL."""


def refusal(spec: LlamaModelSpec | ModelRouterSpec, restrictions: Restrictions) -> str | None:
    """Return why a spec is refused: the field, what was seen, and what is allowed."""
    if restrictions == Restrictions():
        return None
    if isinstance(spec, LlamaModelSpec):
        messages = chain(_of_model(spec, restrictions), _of_both(spec, restrictions))
    else:
        messages = chain(_of_router(spec, restrictions), _of_both(spec, restrictions))
    return next(messages, None)


def _of_both(spec: LlamaModelSpec | ModelRouterSpec, restrictions: Restrictions) -> Iterator[str]:
    account = spec.pod.service_account_name if spec.pod else None
    if account and not restrictions.service_accounts:
        yield (
            f"spec.pod.serviceAccountName: {account}: this installation allows no ServiceAccounts:"
            " delete it"
        )
    written = spec.model_dump(by_alias=True, exclude_none=True)
    for path, name in _secret_names(written, "spec"):
        if not name.startswith(restrictions.secret_prefix):
            yield (
                f"{path}: {name}: this installation allows only Secrets whose names begin with"
                f" {restrictions.secret_prefix}"
            )
    if not restrictions.http_keys:
        for path, url in _keyed_urls(written, "spec"):
            if not url.startswith("https://"):
                yield f"{path}: {url}: this installation sends no key over http: use https"


def _of_model(spec: LlamaModelSpec, restrictions: Restrictions) -> Iterator[str]:
    yield from _of_image("spec.image", spec.image, restrictions)
    is_privileged = spec.backend is not Backend.CPU and (
        spec.devices is None or spec.devices.privileged is not None
    )
    if is_privileged and not restrictions.privileged:
        yield (
            "spec.devices: privileged (the default): this installation allows no privileged pods:"
            " set devices.resource or devices.claim, or backend CPU"
        )
    host_path = spec.store.host_path if spec.store else None
    allowed = restrictions.store_paths
    if host_path and allowed and not any(_is_below(host_path.path, path) for path in allowed):
        yield (
            f"spec.store.hostPath.path: {host_path.path}: this installation allows only"
            f" {', '.join(allowed)} and directories below"
        )


def _of_router(spec: ModelRouterSpec, restrictions: Restrictions) -> Iterator[str]:
    yield from _of_image("spec.pod.image", spec.pod.image if spec.pod else None, restrictions)


def _of_image(path: str, image: str | None, restrictions: Restrictions) -> Iterator[str]:
    if image and restrictions.images and not image.startswith(restrictions.images):
        yield (
            f"{path}: {image}: this installation allows only images that begin with"
            f" {', '.join(restrictions.images)}"
        )


def _is_below(path: str, directory: str) -> bool:
    normal, allowed = (posixpath.normpath(f"/{name.lstrip('/')}") for name in (path, directory))
    return normal == allowed or normal.startswith(f"{allowed.rstrip('/')}/")


def _secret_names(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the name of every Secret that a spec refers to."""
    for where, part in _objects(value, path):
        for key in _SECRETS:
            if isinstance(part.get(key), dict):
                yield f"{where}.{key}.name", part[key]["name"]


def _keyed_urls(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the value of every URL to which an entry of a Secret is sent."""
    for where, part in _objects(value, path):
        for key, secret in _URLS.items():
            if key in part and secret in part:
                yield f"{where}.{key}", part[key]


def _objects(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object in a spec, with its path."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _objects(item, f"{path}.{key}")
