"""LlamaModel -> the Jobs that look at its source and fetch it, and what they have found so far.

A Job is there only until its answer is in the status. It cannot be changed once it is there, so it
is named by all that it depends on, and one that is there is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec, Source
from llama_halo.api.reasons import Reason
from llama_halo.plan import labels
from llama_halo.plan.facts import FETCH, INSPECT, Inspection, JobFacts, ModelFacts, Problem
from llama_halo.plan.jobs import job
from llama_halo.plan.model_files import (
    MODEL,
    Part,
    has,
    inspection_of,
    known,
    looked_at,
    needs_look,
    on_claim,
    parts,
)
from llama_halo.plan.outcome import Invalid, Object, Ref, Wait


@dataclass(frozen=True)
class Files:
    """A model's files as its plan needs them."""

    paths: Mapping[str, str]
    """Of the first file of each part, by its role, below the store."""
    known: Mapping[str, Inspection]
    """By role; without those of which the spec says all."""
    objects: tuple[Object, ...] = ()
    keep: frozenset[Ref] = frozenset()
    problem: Wait | Invalid | None = None
    """Why not all of the paths are known."""
    fetch_problem: Wait | Invalid | None = None
    """Why a download does not go on."""


@dataclass
class _Looks:
    """What the Jobs of the parts have to say."""

    unknown: list[Wait | Invalid] = field(default_factory=list)
    fetching: list[Problem] = field(default_factory=list)


def plan_files(spec: LlamaModelSpec, facts: ModelFacts) -> Files:
    """Decide which Jobs are there, and what is known of the files."""
    found, jobs, said = known(spec, facts.files), _Jobs(facts), _Looks()
    first = {each.path: role for role, each in reversed(found.items())}
    for part in looked_at(spec):
        _plan_looks(spec, facts, part, jobs, said)
        inspection = found.get(part.role)
        # A file that two parts share is fetched for the first of them.
        if inspection and first[inspection.path] == part.role:
            _plan_fetches(spec, facts, part, inspection, jobs, said)
    if not facts.files.recorded:
        about = {each.key for each in parts(spec)} | {each.path for each in found.values()}
        jobs.keep_answered(about)
    return Files(
        paths=_paths(spec, found),
        known=found,
        objects=tuple(jobs.objects),
        keep=frozenset(jobs.keep),
        problem=min(said.unknown, key=lambda each: not isinstance(each, Invalid), default=None),
        fetch_problem=_worst(said.fetching),
    )


def _plan_looks(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, jobs: _Jobs, said: _Looks
) -> None:
    """Plan the Jobs that look at one part, and take in what they say."""
    found = inspection_of(part, facts.files)
    looks = [
        jobs.want(_inspect(spec, facts, part, node)) for node in _looks(spec, facts, part, found)
    ]
    if found is None:
        said.unknown.append(_unknown(part, looks))


def _plan_fetches(
    spec: LlamaModelSpec,
    facts: ModelFacts,
    part: Part,
    found: Inspection,
    jobs: _Jobs,
    said: _Looks,
) -> None:
    """Plan the Jobs that fetch one part, and take in what they say."""
    for node in _fetches(spec, facts, part, found):
        there = jobs.want(_fetch(spec, facts, part, found, node))
        if there and there.problem:
            said.fetching.append(there.problem)


def _paths(spec: LlamaModelSpec, found: Mapping[str, Inspection]) -> dict[str, str]:
    paths = {role: each.path for role, each in found.items()}
    told = {
        each.role: each.source.local.path
        for each in parts(spec)
        if each.source.local and not needs_look(spec, each)
    }
    return paths | told


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


def _looks(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, found: Inspection | None
) -> tuple[str, ...]:
    """Return the nodes where a source is looked at; one without a name is any node."""
    asked = bool(found and facts.requested_at and found.requested_at != facts.requested_at)
    if part.source.local is None or on_claim(spec):
        return (_claim_node(facts),) if found is None or asked else ()
    if found is None or asked:
        return facts.candidates
    # Some node has the file: the others are asked until they have it, too.
    return tuple(node for node in facts.candidates if not has(facts.files, found.path, node))


def _fetches(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, found: Inspection
) -> tuple[str, ...]:
    if part.source.local is not None:
        return ()
    if on_claim(spec):
        return () if has(facts.files, found.path) else (_claim_node(facts),)
    decided = facts.assignment
    if decided is None:
        return ()
    # Asked to look again, the files on the nodes are looked at too: a disk may have been replaced.
    seen = {
        each.node
        for each in facts.files.stored
        if each.path == found.path and each.requested_at == found.requested_at
    }
    again = {node for node in decided.nodes if node not in seen}
    lacking = {node for node in decided.fetch_to if not has(facts.files, found.path, node)}
    return tuple(sorted(lacking | again))


def _claim_node(facts: ModelFacts) -> str:
    """Return the one node where a claim's volume can be used, nothing when there are several."""
    nodes = facts.files.claim.nodes or frozenset()
    return next(iter(nodes)) if len(nodes) == 1 else ""


def _unknown(part: Part, looks: Sequence[JobFacts | None]) -> Wait | Invalid:
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
    return Wait(Reason.INSPECTING, f"the header of the file for {part.role} is being read")


def _worst(problems: Sequence[Problem]) -> Wait | Invalid | None:
    """Return what a person has to hear of first: what is not tried again."""
    worst = min(problems, key=lambda each: not each.final, default=None)
    if worst is None:
        return None
    return (Invalid if worst.final else Wait)(worst.reason, worst.message)


def _inspect(spec: LlamaModelSpec, facts: ModelFacts, part: Part, node: str) -> dict[str, Any]:
    source, hub = part.source, part.source.hugging_face
    kind = [] if part.kind == MODEL else ["--kind", part.kind]
    return job(
        facts.owner,
        spec,
        facts.defaults,
        work=INSPECT,
        role=part.role,
        node=node,
        source=source,
        about=part.key,
        requested_at=facts.requested_at,
        words=_words(source, revision=hub.revision if hub else None) + kind,
    )


def _fetch(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, found: Inspection, node: str
) -> dict[str, Any]:
    more = ["--folder", found.folder, "--shards", str(found.shards)]
    if found.version:
        more += ["--version", found.version]
    return job(
        facts.owner,
        spec,
        facts.defaults,
        work=FETCH,
        role=part.role,
        node=node,
        source=part.source,
        about=found.path,
        requested_at=found.requested_at,
        words=_words(part.source, revision=found.revision, sha256=found.sha256) + more,
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
