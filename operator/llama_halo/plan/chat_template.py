"""A chat template from a user's ConfigMap, copied into an immutable ConfigMap of ours.

The name of the copy contains the hash of its text. An edit of the user's ConfigMap therefore
changes no running or restarting pod: it leads to another copy and an ordinary rollout.
"""

from __future__ import annotations

from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.reasons import Reason
from llama_halo.plan.config_maps import config_map
from llama_halo.plan.facts import FileFacts, Owner
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.outcome import Invalid, Object, Wait

VOLUME = "chat-template"
_MOUNT, _FILE = "/chat-template", "template.jinja"
_FLAGS = ("--chat-template", "--chat-template-file", "--no-jinja")
_VARIABLES = ("LLAMA_ARG_CHAT_TEMPLATE", "LLAMA_ARG_CHAT_TEMPLATE_FILE")


def template_refusal(spec: LlamaModelSpec) -> Invalid | None:
    """Refuse a second template in extraArgs or env: llama-server would use only one of the two."""
    if spec.chat_template is None:
        return None
    for word in spec.extra_args or ():
        flag = word.partition("=")[0].replace("_", "-")
        if flag in _FLAGS:
            return _duplicate_template(f"spec.extraArgs has {flag}")
    for entry in spec.env or ():
        if entry.name in _VARIABLES:
            return _duplicate_template(f"spec.env has {entry.name}")
    return None


def _duplicate_template(field: str) -> Invalid:
    message = f"{field}, and spec.chatTemplate is set: delete one of them"
    return Invalid(Reason.INVALID_SPEC, message)


def without_template(spec: LlamaModelSpec, files: FileFacts) -> Wait | None:
    """Return Wait while the chat template has a problem: GitOps may apply its ConfigMap later."""
    if spec.chat_template is None or not files.chat_template.problem:
        return None
    return Wait(Reason.RETRYING, f"spec.chatTemplate: {files.chat_template.problem}")


def template_config_maps(owner: Owner, spec: LlamaModelSpec, files: FileFacts) -> list[Object]:
    """Return the ConfigMap with the template for the pods; empty without spec.chatTemplate."""
    if spec.chat_template is None:
        return []
    text = files.chat_template.text
    return [config_map(owner, _name(owner, text), {_FILE: text})]


def volumes(owner: Owner, spec: LlamaModelSpec, files: FileFacts) -> list[dict[str, Any]]:
    """Return the pod's volume with the template; empty without spec.chatTemplate."""
    if spec.chat_template is None:
        return []
    return [{"name": VOLUME, "configMap": {"name": _name(owner, files.chat_template.text)}}]


def mounts(spec: LlamaModelSpec) -> list[dict[str, Any]]:
    """Return the container's mount of the template; empty without spec.chatTemplate."""
    if spec.chat_template is None:
        return []
    return [{"name": VOLUME, "mountPath": _MOUNT, "readOnly": True}]


def arguments(spec: LlamaModelSpec) -> list[str]:
    """Return llama-server's arguments; older builds accept a custom template only after
    `--jinja`."""
    if spec.chat_template is None:
        return []
    return ["--jinja", "--chat-template-file", f"{_MOUNT}/{_FILE}"]


def _name(owner: Owner, text: str) -> str:
    return f"{owner.name}-template-{content_hash(text)}"
