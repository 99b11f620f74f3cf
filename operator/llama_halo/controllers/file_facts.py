"""Builds the facts about a model's files from its status and from Jobs that have a result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from llama_halo.contract import labels
from llama_halo.controllers.state import OperatorState
from llama_halo.errors import DamagedGGUF
from llama_halo.kube.cache import Key, Object, key_of
from llama_halo.kube.resources import CLAIM, CONFIG_MAP
from llama_halo.plan.facts import (
    ChatTemplateFacts,
    ClaimFacts,
    FileFacts,
    Inspection,
    JobFacts,
    StoredAt,
)
from llama_halo.status.jobs import inspection_from, job_facts

log = logging.getLogger(__name__)

MAX_LISTED_KEYS = 5


def build_file_facts(state: OperatorState, cr: Object) -> FileFacts:
    """Gather the facts about a model's files."""
    key, status = key_of(cr), cr.get("status") or {}
    jobs = _jobs(state, cr)
    recorded = _inspections(state, cr)
    kept = tuple(
        StoredAt(
            file["node"],
            file["path"],
            file.get("bytes") or 0,
            file.get("sha256") or "",
            file.get("requestedAt") or "",
        )
        for file in status.get("files", ())
    )
    claim = state.pollers.claims.get(claim_key(cr) or key, ClaimFacts())
    template = template_facts(state, cr)
    if not jobs and not recorded:
        state.inspected.pop(key, None)
        return FileFacts(stored=kept, claim=claim, chat_template=template)
    answers = [(job, job.answer) for job in jobs if job.answer]
    inspections = _newest(
        recorded, [answer for _, answer in answers if isinstance(answer, Inspection)], cr
    )
    arrived = [answer for _, answer in answers if isinstance(answer, StoredAt)]
    arrived += [
        StoredAt(job.node, answer.path, answer.bytes)
        for job, answer in answers
        if isinstance(answer, Inspection) and not answer.folder
    ]
    stored = _merged(kept, arrived)
    return FileFacts(
        inspections=inspections,
        stored=stored,
        jobs=jobs,
        claim=claim,
        chat_template=template,
        recorded=(inspections, stored) == (recorded, kept),
    )


def claim_key(cr: Object) -> Key | None:
    """Return the key of the claim that stores a model's files, None for another kind of store."""
    store = (cr.get("spec") or {}).get("store") or {}
    name = (store.get("persistentVolumeClaim") or {}).get("claimName")
    return Key(CLAIM.kind, cr["metadata"]["namespace"], name) if name else None


def template_key(cr: Object) -> Key | None:
    """Return the key of the ConfigMap with a model's chat template, None if the spec names none."""
    name = _template(cr).get("name")
    return Key(CONFIG_MAP.kind, cr["metadata"]["namespace"], name) if name else None


def template_facts(state: OperatorState, cr: Object) -> ChatTemplateFacts:
    """Return a model's chat template, or the problem with it; empty if the spec names none."""
    config_map = template_key(cr)
    if config_map is None:
        return ChatTemplateFacts()
    texts, name = state.pollers.templates.get(config_map), _template(cr)["key"]
    where = f"ConfigMap {config_map.namespace}/{config_map.name}"
    if texts is None:
        return ChatTemplateFacts(problem=f"{where} does not exist: create it with the key {name}")
    if isinstance(texts, str):
        return ChatTemplateFacts(
            problem=f"{where} cannot be read: {texts}: let the operator's ServiceAccount get it"
        )
    if not texts.get(name, "").strip():
        has = ", ".join(sorted(texts)[:MAX_LISTED_KEYS]) or "none"
        return ChatTemplateFacts(
            problem=f"{where} has no text under the key {name} (its keys: {has}): add it"
        )
    return ChatTemplateFacts(text=texts[name])


def _template(cr: Object) -> Mapping[str, str]:
    template = (cr.get("spec") or {}).get("chatTemplate") or {}
    reference: Mapping[str, str] = template.get("configMapKeyRef") or {}
    return reference


def _jobs(state: OperatorState, cr: Object) -> tuple[JobFacts, ...]:
    key, uid = key_of(cr), cr["metadata"]["uid"]
    jobs = state.cache.children(key, "Job")
    if not jobs:
        return ()
    pods = state.cache.children(key, "Pod")
    return tuple(
        job_facts(
            job,
            [pod for pod in pods if _owns(job, pod)],
            state.pollers.creation_warnings.get(key_of(job), ""),
        )
        for job in jobs
        if "deletionTimestamp" not in job["metadata"]
        and any(owner["uid"] == uid for owner in job["metadata"].get("ownerReferences", ()))
    )


def _owns(job: Object, pod: Object) -> bool:
    """Tell whether a pod names the Job as its controller, as the pods of the Job controller do."""
    uid = job["metadata"]["uid"]
    return any(
        owner["uid"] == uid and owner.get("controller") is True
        for owner in pod["metadata"].get("ownerReferences") or ()
    )


def _inspections(state: OperatorState, cr: Object) -> tuple[Inspection, ...]:
    """Return the inspections in the status; they are parsed again only when they change."""
    key, entries = key_of(cr), (cr.get("status") or {}).get("inspected") or []
    cached = state.inspected.get(key)
    if cached is None or cached[0] != entries:
        cached = (entries, tuple(_parsed(cr, entries)))
        state.inspected[key] = cached
    return cached[1]


def _parsed(cr: Object, entries: Sequence[Object]) -> list[Inspection]:
    inspections = []
    for entry in entries:
        try:
            inspections.append(inspection_from(entry))
        except (DamagedGGUF, KeyError, TypeError, ValueError) as error:
            # Another version of the operator may have written it: the source is inspected again.
            log.warning(
                "inspection not usable", extra={"key": str(key_of(cr)), "reason": str(error)}
            )
    return inspections


def _newest(
    recorded: Sequence[Inspection], arrived: Sequence[Inspection], cr: Object
) -> tuple[Inspection, ...]:
    """Return one inspection for each role and source: the answer to the latest reconcile request.

    If several answer it, or none does, the recorded one wins over the one that just arrived.
    """
    annotations = cr["metadata"].get("annotations") or {}
    latest = annotations.get(labels.FLUX_REQUESTED_AT, "")
    newest: dict[tuple[str, str], Inspection] = {}
    for inspection in (*recorded, *arrived):
        old = newest.get((inspection.role, inspection.source))
        if old is None or (inspection.requested_at == latest and old.requested_at != latest):
            newest[(inspection.role, inspection.source)] = inspection
    return tuple(newest[key] for key in sorted(newest))


def _merged(kept: Sequence[StoredAt], arrived: Sequence[StoredAt]) -> tuple[StoredAt, ...]:
    """Return all stored files, sorted by node and path; one that just arrived replaces the old."""
    news = {(stored.node, stored.path): stored for stored in arrived}
    rest = [stored for stored in kept if (stored.node, stored.path) not in news]
    return tuple(sorted([*news.values(), *rest], key=lambda stored: (stored.node, stored.path)))
