"""Polls ConfigMaps with chat templates: they belong to users and lack our label.

A plan uses a text that was read after its spec. An edit of both, or a reconcile request of Flux,
therefore leads to one rollout. The operator notices an edit of the ConfigMap alone within half a
minute.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from llama_halo.contract import labels
from llama_halo.controllers.file_facts import template_facts, template_key
from llama_halo.controllers.placement.controller import refresh_demand
from llama_halo.controllers.state import OperatorState
from llama_halo.errors import ClusterError, NotFound
from llama_halo.kube.cache import Key, Object, key_of
from llama_halo.kube.client import REQUEST_ERRORS
from llama_halo.kube.resources import CONFIG_MAP, LLAMAMODEL

log = logging.getLogger(__name__)

POLL_SECONDS = 30
AWAITED_POLL_SECONDS = 5


def is_current(state: OperatorState, cr: Object) -> bool:
    """Tell whether a model's template was read for its generation and reconcile request."""
    return state.pollers.templates_read.get(key_of(cr)) == _version_read(cr)


async def poll(state: OperatorState, key: Key) -> float | None:
    """Read one ConfigMap, and enqueue the models that wait for it or use a text that changed."""
    users = [
        cr
        for cr in state.cache.in_namespace(LLAMAMODEL.kind, key.namespace)
        if template_key(cr) == key
    ]
    if not users:
        state.pollers.templates.pop(key, None)
        return None
    try:
        texts = await _read(state, key)
    except REQUEST_ERRORS as error:
        log.info("chat template not read", extra={"key": str(key), "reason": repr(error)})
        return AWAITED_POLL_SECONDS
    changed = key not in state.pollers.templates or state.pollers.templates[key] != texts
    state.pollers.templates[key] = texts
    for cr in users:
        now = state.cache.get(key_of(cr))
        if now is None or _version_read(now) != _version_read(cr):
            state.pollers.queue.add(key)  # its spec or reconcile request changed meanwhile
        elif changed or state.pollers.templates_read.get(key_of(cr)) != _version_read(cr):
            state.pollers.templates_read[key_of(cr)] = _version_read(cr)
            refresh_demand(state, key_of(cr))
    awaited = any(template_facts(state, cr).problem for cr in users)
    return AWAITED_POLL_SECONDS if awaited else POLL_SECONDS


async def _read(state: OperatorState, key: Key) -> Mapping[str, str] | str | None:
    """Return the texts of a ConfigMap, None if it does not exist, a message if it is not readable.

    Raises `REQUEST_ERRORS`, and `ConnectionError` for HTTP 429 and 5xx: the texts that were read
    before stay valid.
    """
    try:
        config_map = await state.cluster.get(CONFIG_MAP, key.namespace, key.name)
    except NotFound:
        return None
    except ClusterError as error:
        if error.status >= 500 or error.status == 429:
            raise ConnectionError(str(error)) from error
        return str(error)
    return dict(config_map.get("data") or {})


def _version_read(cr: Object) -> tuple[str, int, str]:
    """Return uid, generation and reconcile request, which identify what a template is read for."""
    metadata = cr["metadata"]
    annotations = metadata.get("annotations") or {}
    requested = annotations.get(labels.FLUX_REQUESTED_AT, "")
    return metadata["uid"], metadata.get("generation", 0), requested
