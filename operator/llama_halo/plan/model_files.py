"""The files that a model consists of, by role, with their inspections and locations."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from llama_halo.api.llamamodel import Backend, LlamaModelSpec, Memory, Source
from llama_halo.contract.model import Mode
from llama_halo.contract.reasons import Reason
from llama_halo.gguf.companions import ADAPTER, PROJECTOR
from llama_halo.gguf.whisper import WHISPER
from llama_halo.plan.facts import FETCH, FileFacts, Inspection
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.outcome import Invalid

MODEL, DRAFT = "model", "draft"
_SECRETS = {"token_secret_ref", "headers_secret_ref"}


@dataclass(frozen=True)
class Part:
    """One file of a model, possibly in shards, and its role."""

    role: str
    """model, projector, draft, or adapter-NAME."""
    kind: str
    """The kind that its header must have: model, whisper, projector or adapter."""
    source: Source

    @property
    def key(self) -> str:
        """The hash of the source without its Secret references."""
        return source_key(self.source)


def parts(spec: LlamaModelSpec) -> tuple[Part, ...]:
    """Return the files that the model's server loads, the model itself first."""
    model_parts = [Part(MODEL, WHISPER if is_transcription(spec) else MODEL, spec.source)]
    if spec.projector:
        model_parts.append(Part(PROJECTOR, PROJECTOR, spec.projector.source))
    if spec.draft and spec.draft.model:
        model_parts.append(Part(DRAFT, MODEL, spec.draft.model.source))
    return (
        *model_parts,
        *(
            Part(adapter_role(adapter.name), ADAPTER, adapter.source)
            for adapter in spec.adapters or ()
        ),
    )


def is_transcription(spec: LlamaModelSpec) -> bool:
    """Tell whether whisper.cpp serves the model: it has another server and another file format."""
    return spec.mode is Mode.TRANSCRIPTION


def adapter_role(name: str) -> str:
    """Return the role of an adapter."""
    return f"{ADAPTER}-{name}"


def source_key(source: Source) -> str:
    """Return the hash of a source without its Secret references."""
    named = {
        kind: {name: value for name, value in vars(fields).items() if name not in _SECRETS}
        for kind, fields in vars(source).items()
        if fields is not None
    }
    return content_hash(named)


def needs_inspection(spec: LlamaModelSpec, part: Part) -> bool:
    """Tell whether a part's header has to be read.

    It has not if all files are local and the spec gives the sizes. The header of a draft model is
    always read, because only it shows how the model drafts.
    """
    is_specified = has_explicit_sizes(spec) and all(part.source.local for part in parts(spec))
    return part.role == DRAFT or not is_specified


def has_explicit_sizes(spec: LlamaModelSpec) -> bool:
    """Tell whether the spec alone gives context and memory, so that no header has to be read."""
    memory = spec.memory or Memory()
    on_gpu = spec.backend is not Backend.CPU
    return bool(
        (spec.context_size is not None or is_transcription(spec))
        and memory.host is not None
        and (memory.gpu is not None or not on_gpu)
    )


def parts_to_inspect(spec: LlamaModelSpec) -> list[Part]:
    """Return the parts whose headers have to be read."""
    return [part for part in parts(spec) if needs_inspection(spec, part)]


def inspects_on_nodes(spec: LlamaModelSpec) -> bool:
    """Tell whether Jobs read a header on each node: a local file is in the nodes' own stores."""
    return not is_on_claim(spec) and any(part.source.local for part in parts_to_inspect(spec))


def inspection_of(part: Part, files: FileFacts) -> Inspection | None:
    """Return the inspection of a part's current source, None if there is none."""
    role_and_source = part.role, part.key
    return next(
        (
            inspection
            for inspection in files.inspections
            if (inspection.role, inspection.source) == role_and_source
            and _is_whispers(inspection) == (part.kind == WHISPER)
        ),
        None,
    )


def _is_whispers(inspection: Inspection) -> bool:
    return inspection.companion is not None and inspection.companion.kind == WHISPER


def inspections_by_role(spec: LlamaModelSpec, files: FileFacts) -> dict[str, Inspection]:
    """Return the inspections of the spec's current sources, by role."""
    by_role = {part.role: inspection_of(part, files) for part in parts_to_inspect(spec)}
    return {role: inspection for role, inspection in by_role.items() if inspection}


def all_inspected(spec: LlamaModelSpec, files: FileFacts) -> bool:
    """Tell whether every part that needs an inspection has one."""
    return len(inspections_by_role(spec, files)) == len(parts_to_inspect(spec))


def still_relevant(
    spec: LlamaModelSpec, files: FileFacts, *, in_use_on: Set[str] = frozenset()
) -> FileFacts:
    """Return the facts to keep in the status.

    These are the inspections of the current sources, and the stored files. Files of earlier sources
    are kept only where they may be in use: on nodes in `in_use_on`, and on nodes that lack some of
    the current files. All stored files are kept until every part is inspected.
    """
    inspections = tuple(inspections_by_role(spec, files).values())
    if not all_inspected(spec, files):
        return FileFacts(inspections=inspections, stored=files.stored)
    paths = {inspection.path for inspection in inspections}
    renewed = _nodes_with(paths, files) - in_use_on
    stored = [
        stored for stored in files.stored if stored.path in paths or stored.node not in renewed
    ]
    return FileFacts(inspections=inspections, stored=tuple(stored))


def stored_on(spec: LlamaModelSpec, files: FileFacts) -> frozenset[str] | None:
    """Return the nodes that have all files, None when files do not restrict the nodes."""
    if is_on_claim(spec):
        return files.claim.nodes
    inspections = inspections_by_role(spec, files)
    return (
        _nodes_with((inspection.path for inspection in inspections.values()), files)
        if inspections
        else None
    )


def fetchable_to(spec: LlamaModelSpec, files: FileFacts) -> frozenset[str] | None:
    """Return the nodes to which the missing files can be fetched, None for any node.

    A local file cannot be fetched: a node must have it already.
    """
    remote = [part for part in parts(spec) if part.source.local is None]
    if is_on_claim(spec) or not remote:
        return frozenset()
    inspections = inspections_by_role(spec, files)
    local = [inspections[part.role].path for part in parts_to_inspect(spec) if part.source.local]
    return _nodes_with(local, files) if local else None


def fetching_on(spec: LlamaModelSpec, files: FileFacts) -> frozenset[str]:
    """Return the nodes to which Jobs fetch files now."""
    paths = {inspection.path for inspection in inspections_by_role(spec, files).values()}
    return frozenset(job.node for job in files.jobs if job.work == FETCH and job.source in paths)


def claim_has_files(spec: LlamaModelSpec, files: FileFacts) -> bool:
    """Tell whether the claim has all inspected files; True for another kind of store."""
    inspections = inspections_by_role(spec, files).values()
    return not is_on_claim(spec) or all(
        is_stored(files, inspection.path) for inspection in inspections
    )


def claim_refusal(spec: LlamaModelSpec, files: FileFacts) -> Invalid | None:
    """Refuse a claim that only one pod may use."""
    claim = spec.store.persistent_volume_claim if spec.store else None
    if claim is None or not files.claim.once_pod:
        return None
    return Invalid(
        Reason.INVALID_SPEC,
        f"spec.store.persistentVolumeClaim: {claim.claim_name} has the access mode"
        " ReadWriteOncePod, so a download and a server cannot both use it: use a claim with"
        " ReadWriteOnce or ReadWriteMany",
    )


def is_on_claim(spec: LlamaModelSpec) -> bool:
    """Tell whether the store is a PersistentVolumeClaim, so that its files belong to no node."""
    return bool(spec.store and spec.store.persistent_volume_claim)


def is_stored(files: FileFacts, path: str, node: str | None = None) -> bool:
    """Tell whether a file is stored on a node, or anywhere when `node` is None."""
    return any(stored.path == path and node in (None, stored.node) for stored in files.stored)


def _nodes_with(paths: Iterable[str], files: FileFacts) -> frozenset[str]:
    """Return the nodes that have all of these files."""
    nodes_by_path = [
        {stored.node for stored in files.stored if stored.path == path}
        for path in dict.fromkeys(paths)
    ]
    return frozenset(set.intersection(*nodes_by_path)) if nodes_by_path else frozenset()
