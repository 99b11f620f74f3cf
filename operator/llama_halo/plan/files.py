"""LlamaModel -> the Jobs that look at its source and fetch it, and what they have found so far.

A Job is there only until its answer is in the status. It cannot be changed once it is there, so it
is named by all that it depends on, and one that is there is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec, Source
from llama_halo.api.reasons import Reason
from llama_halo.plan import labels
from llama_halo.plan.facts import FileFacts, Inspection, JobFacts, ModelFacts, Problem
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.jobs import FETCH, INSPECT, job
from llama_halo.plan.outcome import Invalid, Object, Ref, Wait
from llama_halo.plan.sizing import says_all

MODEL = "model"
"""The role of the model's own file."""
_SECRETS = {"token_secret_ref", "headers_secret_ref"}


@dataclass(frozen=True)
class Files:
    """A model's files as its plan needs them."""

    path: str
    """Of the first file, below the store; empty while it is not known."""
    inspection: Inspection | None
    """None where the spec says all, too."""
    objects: tuple[Object, ...] = ()
    keep: frozenset[Ref] = frozenset()
    problem: Wait | Invalid | None = None
    """Why the path is not known."""
    fetch_problem: Wait | Invalid | None = None
    """Why a download does not go on."""


def plan_files(spec: LlamaModelSpec, facts: ModelFacts) -> Files:
    """Decide which Jobs are there, and what is known of the files."""
    found = inspection_of(spec, facts.files)
    jobs = _Jobs(facts)
    looks = [jobs.want(_inspect(spec, facts, node)) for node in _looks(spec, facts, found)]
    fetches = [
        jobs.want(_fetch(spec, facts, found, node))
        for node in _fetches(spec, facts, found)
        if found is not None
    ]
    if not facts.files.recorded:
        jobs.keep_answered({source_key(spec.source), found.path if found else ""})
    path = found.path if found else ""
    if spec.source.local and not needs_look(spec):
        path = spec.source.local.path
    return Files(
        path=path,
        inspection=found,
        objects=tuple(jobs.objects),
        keep=frozenset(jobs.keep),
        problem=None if path else _unknown(looks),
        fetch_problem=_worst([each.problem for each in fetches if each and each.problem]),
    )


def needs_look(spec: LlamaModelSpec) -> bool:
    """Tell whether a header has to be read: not when the spec says all of a file in the store."""
    return spec.source.local is None or not says_all(spec)


def current(spec: LlamaModelSpec, files: FileFacts) -> FileFacts:
    """Return what is worth remembering: of the source that the spec names now, and old files only
    on nodes that do not have the new ones yet, where they may still be in use."""
    found = inspection_of(spec, files)
    if found is None:
        return FileFacts(stored=files.stored)
    renewed = {each.node for each in files.stored if each.path == found.path}
    stored = [each for each in files.stored if each.path == found.path or each.node not in renewed]
    return FileFacts(inspections=(found,), stored=tuple(stored))


def looks_on_nodes(spec: LlamaModelSpec) -> bool:
    """Tell whether a header is read on the nodes themselves: of a file in a store that is
    theirs."""
    return spec.source.local is not None and needs_look(spec) and not on_claim(spec)


def inspection_of(spec: LlamaModelSpec, files: FileFacts) -> Inspection | None:
    """Return what is known of the source that the spec names now."""
    if not needs_look(spec):
        return None
    key = source_key(spec.source)
    return next(
        (each for each in files.inspections if (each.role, each.source) == (MODEL, key)), None
    )


def stored_on(spec: LlamaModelSpec, files: FileFacts) -> frozenset[str] | None:
    """Return the nodes that have the files, None when the model does not depend on it."""
    found = inspection_of(spec, files)
    if on_claim(spec):
        return files.claim.nodes
    if found is None:
        return None
    return frozenset(each.node for each in files.stored if each.path == found.path)


def fetching_on(spec: LlamaModelSpec, files: FileFacts) -> frozenset[str]:
    """Return the nodes to which the files are on their way."""
    found = inspection_of(spec, files)
    path = found.path if found else ""
    return frozenset(each.node for each in files.jobs if each.work == FETCH and each.source == path)


def on_claim_yet(spec: LlamaModelSpec, files: FileFacts) -> bool:
    """Tell whether a claim that is to have the files has them."""
    found = inspection_of(spec, files)
    return found is None or not on_claim(spec) or _has(files, found.path)


def claim_refusal(spec: LlamaModelSpec, files: FileFacts) -> Invalid | None:
    """Refuse a claim that only one pod may use."""
    claim = spec.store.persistent_volume_claim if spec.store else None
    if claim is None or not files.claim.once_pod:
        return None
    return Invalid(
        Reason.INVALID_SPEC,
        f"spec.store.persistentVolumeClaim: {claim.claim_name} has the access mode"
        " ReadWriteOncePod, so a download and a server could never both use it: use a claim with"
        " ReadWriteOnce or ReadWriteMany",
    )


def on_claim(spec: LlamaModelSpec) -> bool:
    """Tell whether the store is a PersistentVolumeClaim, which belongs to no node by its name."""
    return bool(spec.store and spec.store.persistent_volume_claim)


def source_key(source: Source) -> str:
    """Return the hash of what a source names, whatever the Secret that it takes."""
    named = {
        kind: {name: value for name, value in vars(each).items() if name not in _SECRETS}
        for kind, each in vars(source).items()
        if each is not None
    }
    return content_hash(named)


class _Jobs:
    """Collects the Jobs of a plan: new ones as objects, those that are there as they are."""

    def __init__(self, facts: ModelFacts) -> None:
        self._there: Mapping[str, JobFacts] = {each.name: each for each in facts.files.jobs}
        self.objects: list[Object] = []
        self.keep: set[Ref] = set()

    def want(self, wanted: Object) -> JobFacts | None:
        """Plan a Job; return what is known of it, None when it is new."""
        there = self._there.get(wanted["metadata"]["name"])
        if there is None:
            self.objects.append(wanted)
        elif not there.failed:
            self.keep.add(Ref("Job", there.name))
        return there

    def keep_answered(self, about: set[str]) -> None:
        """Leave the Jobs whose answers are still of use, and not in the status yet."""
        answered = [each for each in self._there.values() if each.answer and each.source in about]
        self.keep |= {Ref("Job", each.name) for each in answered}


def _looks(spec: LlamaModelSpec, facts: ModelFacts, found: Inspection | None) -> tuple[str, ...]:
    """Return the nodes where the source is looked at; one without a name is any node."""
    if not needs_look(spec):
        return ()
    asked = bool(found and facts.requested_at and found.requested_at != facts.requested_at)
    if spec.source.local is None or on_claim(spec):
        return (_claim_node(facts),) if found is None or asked else ()
    if found is None or asked:
        return facts.candidates
    # Some node has the file: the others are asked until they have it, too.
    return tuple(node for node in facts.candidates if not _has(facts.files, found.path, node))


def _fetches(spec: LlamaModelSpec, facts: ModelFacts, found: Inspection | None) -> tuple[str, ...]:
    if found is None or spec.source.local is not None:
        return ()
    if on_claim(spec):
        return () if _has(facts.files, found.path) else (_claim_node(facts),)
    decided = facts.assignment
    if decided is None:
        return ()
    # Asked to look again, the files on the nodes are looked at too: a disk may have been replaced.
    seen = {
        each.node
        for each in facts.files.stored
        if each.path == found.path and each.requested_at == found.requested_at
    }
    again = tuple(node for node in decided.nodes if node not in seen)
    return tuple(sorted({*decided.fetch_to, *again}))


def _has(files: FileFacts, path: str, node: str | None = None) -> bool:
    return any(each.path == path and node in (None, each.node) for each in files.stored)


def _claim_node(facts: ModelFacts) -> str:
    """Return the one node where a claim's volume can be used, nothing when there are several."""
    nodes = facts.files.claim.nodes or frozenset()
    return next(iter(nodes)) if len(nodes) == 1 else ""


def _unknown(looks: Sequence[JobFacts | None]) -> Wait | Invalid:
    """Tell why the source is not known yet, in a Job's own words if all have any."""
    problems = [each.problem for each in looks if each and each.problem]
    worst = _worst(problems) if len(problems) == len(looks) else None
    if worst:
        return worst
    if not looks:
        return Wait(
            Reason.WAITING_FOR_NODE,
            "no node may run the model, so there is none to look for its file on: label a node"
            f" (kubectl label node NAME {labels.STRIX_HALO}=true), or change spec.pod.nodeSelector",
        )
    return Wait(Reason.INSPECTING, "the header of the model's file is being read")


def _worst(problems: Sequence[Problem]) -> Wait | Invalid | None:
    """Return what a person has to hear of first: what is not tried again."""
    worst = min(problems, key=lambda each: not each.final, default=None)
    if worst is None:
        return None
    return (Invalid if worst.final else Wait)(worst.reason, worst.message)


def _inspect(spec: LlamaModelSpec, facts: ModelFacts, node: str) -> dict[str, Any]:
    source, hub = spec.source, spec.source.hugging_face
    return job(
        facts.owner,
        spec,
        facts.defaults,
        work=INSPECT,
        role=MODEL,
        node=node,
        source=source,
        about=source_key(source),
        requested_at=facts.requested_at,
        words=_words(source, revision=hub.revision if hub else None),
    )


def _fetch(spec: LlamaModelSpec, facts: ModelFacts, found: Inspection, node: str) -> dict[str, Any]:
    more = ["--folder", found.folder, "--shards", str(found.shards)]
    if found.version:
        more += ["--version", found.version]
    return job(
        facts.owner,
        spec,
        facts.defaults,
        work=FETCH,
        role=MODEL,
        node=node,
        source=spec.source,
        about=found.path,
        requested_at=found.requested_at,
        words=_words(spec.source, revision=found.revision, sha256=found.sha256) + more,
    )


def _words(source: Source, *, revision: str | None, sha256: str = "") -> list[str]:
    if source.hugging_face:
        words = ["--repo", source.hugging_face.repo, "--file", source.hugging_face.file]
        words += ["--revision", revision or "main"]
        return words + (["--sha256", sha256] if sha256 else [])
    if source.http:
        words = ["--url", source.http.url]
        return words + (["--sha256", source.http.sha256] if source.http.sha256 else [])
    assert source.local is not None  # noqa: S101  (one of the three, by the schema)
    return ["--path", source.local.path]
