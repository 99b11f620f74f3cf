"""Kubernetes Events for transitions of the Ready condition.

The steps of an ordinary start appear in the status only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from llama_halo.contract.labels import GROUP
from llama_halo.contract.reasons import FAILED_REASONS, STALLED_REASONS, ConditionType, Reason
from llama_halo.errors import ClusterError, Conflict
from llama_halo.kube.cache import Object, key_of
from llama_halo.kube.protocol import KubeApi
from llama_halo.kube.resources import EVENT
from llama_halo.plan.hashing import content_hash
from llama_halo.status.conditions import condition

log = logging.getLogger(__name__)

CONTROLLER = f"{GROUP}/operator"
_NOTE_LIMIT = 1000
_PAUSES_SECONDS = (0.0, 0.2, 1.0)
"""The pause before each attempt. The status is written after its Event, so the attempts are few."""
_WARNINGS = FAILED_REASONS | STALLED_REASONS
_STEPS = (Reason.SCHEDULING, Reason.PULLING_IMAGE, Reason.LOADING, Reason.STARTING)


async def report_transition(
    cluster: KubeApi, owner: Object, status: Mapping[str, Any], *, instance: str
) -> None:
    """Post an Event when Ready's status or reason changed.

    The next step of a start is not posted. A refusal by the API server is logged, not raised.
    """
    old = condition(owner.get("status") or {}, ConditionType.READY)
    new = condition(status, ConditionType.READY)
    same = (old.get("status"), old.get("reason")) == (new["status"], new["reason"])
    if same or (new["reason"] in _STEPS and old.get("status") != "True"):
        return
    key, metadata = key_of(owner), owner["metadata"]
    # The name is the same for one reason, generation and period of Ready. A restart of the operator
    # or a reason that comes and goes therefore does not post the Event twice.
    stretch = [old.get("status"), old.get("lastTransitionTime"), metadata.get("generation")]
    digest = content_hash([metadata["uid"], *stretch, new["reason"]])
    body = {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{key.name}.{digest}", "namespace": key.namespace},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "type": "Warning" if Reason(new["reason"]) in _WARNINGS else "Normal",
        "reason": new["reason"],
        "note": new["message"][:_NOTE_LIMIT],
        "action": "Reconcile",
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "regarding": {
            "apiVersion": owner["apiVersion"],
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": metadata["uid"],
        },
    }
    for pause in _PAUSES_SECONDS:
        await asyncio.sleep(pause)
        try:
            await cluster.create(EVENT, key.namespace, body)
        except Conflict:
            return  # it was posted before
        except ClusterError as error:
            refusal = error
            if error.status < 500 and error.status != 429:
                break
        else:
            return
    # Events may have an etcd of their own that is down for long; the status does not wait for it.
    log.warning("event not posted", extra={"key": str(key), "reason": str(refusal)})
