"""ConfigMaps with chat templates: people's own and without our label, so each is asked for by name.

A model is planned with a text that was read after its spec was: who edits both at once, or asks
with Flux's annotation, gets one roll. An edit of the ConfigMap alone shows within half a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from llama_halo.cluster.resources import CONFIG_MAP, LLAMAMODEL
from llama_halo.cluster.store import Key, Object, key_of
from llama_halo.errors import ClusterError, NotFound
from llama_halo.plan import labels
from llama_halo.plan.facts import ChatTemplateFacts
from llama_halo.reconcile.context import Context

log = logging.getLogger(__name__)

NEXT_LOOK_SECONDS = 30
AWAITED_LOOK_SECONDS = 5
_MOST_KEYS_TOLD = 5


def is_read(context: Context, cr: Object) -> bool:
    """Tell whether a model's template has been read for its present spec; have it read if not, and
    the model looked at again then."""
    config_map = _config_map(cr)
    if config_map is None or context.templates_read.get(key_of(cr)) == _asking(cr):
        return True
    context.probes.add(config_map)
    return False


def template_facts(context: Context, cr: Object) -> ChatTemplateFacts:
    """Return what is known of a model's chat template."""
    config_map = _config_map(cr)
    if config_map is None:
        return ChatTemplateFacts()
    found, name = context.templates.get(config_map), _reference(cr)["key"]
    where = f"ConfigMap {config_map.namespace}/{config_map.name}"
    if found is None:
        return ChatTemplateFacts(problem=f"{where} is not there: apply it, with a key {name}")
    if isinstance(found, str):
        return ChatTemplateFacts(problem=f"{where} cannot be read: {found}")
    if not found.get(name, "").strip():
        has = ", ".join(sorted(found)[:_MOST_KEYS_TOLD]) or "nothing"
        return ChatTemplateFacts(problem=f"{where} has no text under {name}, it has {has}")
    return ChatTemplateFacts(text=found[name])


async def look(context: Context, key: Key) -> float | None:
    """Ask for one ConfigMap; models are looked at again that wait for it or find another text."""
    users = [
        cr
        for cr in context.store.in_namespace(LLAMAMODEL.kind, key.namespace)
        if _config_map(cr) == key
    ]
    if not users:
        context.templates.pop(key, None)
        return None
    found = await _read(context, key)
    changed = key not in context.templates or context.templates[key] != found
    context.templates[key] = found
    for cr in users:
        if changed or context.templates_read.get(key_of(cr)) != _asking(cr):
            context.templates_read[key_of(cr)] = _asking(cr)
            context.queue.add(key_of(cr))
    awaited = any(template_facts(context, cr).problem for cr in users)
    return AWAITED_LOOK_SECONDS if awaited else NEXT_LOOK_SECONDS


async def _read(context: Context, key: Key) -> Mapping[str, str] | str | None:
    """Return the texts of a ConfigMap, None when there is none, else why it cannot be read; what
    was read before stays good while the API server has trouble."""
    try:
        found = await context.cluster.get(CONFIG_MAP, key.namespace, key.name)
    except NotFound:
        return None
    except ClusterError as error:
        log.warning("chat template not read", extra={"key": str(key), "reason": str(error)})
        before = context.templates.get(key)
        return before if isinstance(before, Mapping) else str(error)
    return dict(found.get("data") or {})


def _reference(cr: Object) -> Mapping[str, str]:
    template = (cr.get("spec") or {}).get("chatTemplate") or {}
    found: Mapping[str, str] = template.get("configMapKeyRef") or {}
    return found


def _config_map(cr: Object) -> Key | None:
    name = _reference(cr).get("name")
    return Key(CONFIG_MAP.kind, cr["metadata"]["namespace"], name) if name else None


def _asking(cr: Object) -> tuple[str, int, str]:
    """Return what a reading answers: the resource, its generation, the request to look again."""
    metadata = cr["metadata"]
    annotations = metadata.get("annotations") or {}
    return (
        metadata["uid"],
        metadata.get("generation", 0),
        annotations.get(labels.FLUX_REQUESTED_AT, ""),
    )
