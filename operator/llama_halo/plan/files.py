"""LlamaModel -> the Jobs that inspect and fetch its files, and their results so far.

A Job exists only until its result is in the status. A Job cannot be changed, so its name contains a
hash of all that it depends on, and an existing Job is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec, Source
from llama_halo.contract import labels
from llama_halo.contract.reasons import Reason
from llama_halo.plan.facts import FETCH, INSPECT, Inspection, JobFacts, ModelFacts, Problem
from llama_halo.plan.jobs import job
from llama_halo.plan.model_files import (
    MODEL,
    Part,
    inspection_of,
    inspections_by_role,
    is_on_claim,
    is_stored,
    needs_inspection,
    parts,
    parts_to_inspect,
)
from llama_halo.plan.outcome import Invalid, Object, Ref, Wait


@dataclass(frozen=True)
class Files:
    """A model's files as its plan needs them."""

    paths: Mapping[str, str]
    """By role: the path of the part's first file, below the store."""
    objects: tuple[Object, ...] = ()
    keep: frozenset[Ref] = frozenset()
    problem: Wait | Invalid | None = None
    """Why some of the paths are not known."""
    fetch_problem: Wait | Invalid | None = None
    """Why a download makes no progress."""


@dataclass
class _JobFindings:
    """Why parts are not known yet, and the problems of fetch Jobs."""

    unknown: list[Wait | Invalid] = field(default_factory=list)
    fetching: list[Problem] = field(default_factory=list)


def plan_files(spec: LlamaModelSpec, facts: ModelFacts) -> Files:
    """Plan the Jobs for a model's files; return them with the paths and problems known so far."""
    inspections, jobs, findings = (
        inspections_by_role(spec, facts.files),
        _Jobs(facts),
        _JobFindings(),
    )
    first = {inspection.path: role for role, inspection in reversed(inspections.items())}
    for part in parts_to_inspect(spec):
        _plan_inspections(spec, facts, part, jobs, findings)
        inspection = inspections.get(part.role)
        # A file that two parts share is fetched for the first of them.
        if inspection and first[inspection.path] == part.role:
            _plan_fetches(spec, facts, part, inspection, jobs, findings)
    if not facts.files.recorded:
        about = {part.key for part in parts(spec)} | {
            inspection.path for inspection in inspections.values()
        }
        jobs.keep_answered(about)
    return Files(
        paths=_paths(spec, inspections),
        objects=tuple(jobs.objects),
        keep=frozenset(jobs.keep),
        problem=min(
            findings.unknown, key=lambda outcome: not isinstance(outcome, Invalid), default=None
        ),
        fetch_problem=_worst(findings.fetching),
    )


def _plan_inspections(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, jobs: _Jobs, findings: _JobFindings
) -> None:
    """Plan the Jobs that inspect one part; add to the findings why it is not known yet."""
    inspection = inspection_of(part, facts.files)
    inspections_planned = [
        jobs.want(_inspect(spec, facts, part, node))
        for node in _nodes_to_inspect(spec, facts, part, inspection)
    ]
    if inspection is None:
        findings.unknown.append(_inspection_pending(part, inspections_planned))


def _plan_fetches(
    spec: LlamaModelSpec,
    facts: ModelFacts,
    part: Part,
    inspection: Inspection,
    jobs: _Jobs,
    findings: _JobFindings,
) -> None:
    """Plan the Jobs that fetch one part; add their problems to the findings."""
    for node in _fetches(spec, facts, part, inspection):
        job_facts = jobs.want(_fetch(spec, facts, part, inspection, node))
        if job_facts and job_facts.problem:
            findings.fetching.append(job_facts.problem)


def _paths(spec: LlamaModelSpec, inspections: Mapping[str, Inspection]) -> dict[str, str]:
    paths = {role: inspection.path for role, inspection in inspections.items()}
    local = {
        part.role: part.source.local.path
        for part in parts(spec)
        if part.source.local and not needs_inspection(spec, part)
    }
    return paths | local


class _Jobs:
    """Collects the Jobs of a plan: new ones as objects, existing ones as references to keep."""

    def __init__(self, facts: ModelFacts) -> None:
        self._existing: Mapping[str, JobFacts] = {
            existing.name: existing for existing in facts.files.jobs
        }
        self.objects: list[Object] = []
        self.keep: set[Ref] = set()

    def want(self, desired: Object) -> JobFacts | None:
        """Plan a Job; return the facts about it, None when it is new."""
        job_facts = self._existing.get(desired["metadata"]["name"])
        if job_facts is None:
            self.objects.append(desired)
        elif not job_facts.failed:
            self.keep.add(Ref("Job", job_facts.name))
        return job_facts

    def keep_answered(self, about: set[str]) -> None:
        """Keep the Jobs that have an answer about these sources or paths.

        The caller uses it while the status does not have all answers yet.
        """
        answered = [
            job_facts
            for job_facts in self._existing.values()
            if job_facts.answer and job_facts.source in about
        ]
        self.keep |= {Ref("Job", job_facts.name) for job_facts in answered}


def _nodes_to_inspect(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, inspection: Inspection | None
) -> tuple[str, ...]:
    """Return the nodes where a source is inspected; an empty name stands for any node."""
    requested_again = bool(
        inspection and facts.requested_at and inspection.requested_at != facts.requested_at
    )
    if part.source.local is None or is_on_claim(spec):
        return (_claim_node(facts),) if inspection is None or requested_again else ()
    if inspection is None or requested_again:
        return facts.candidates
    # Some node has the file: the others are inspected until they have it, too.
    return tuple(
        node for node in facts.candidates if not is_stored(facts.files, inspection.path, node)
    )


def _fetches(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, inspection: Inspection
) -> tuple[str, ...]:
    if part.source.local is not None:
        return ()
    if is_on_claim(spec):
        return () if is_stored(facts.files, inspection.path) else (_claim_node(facts),)
    decided = facts.assignment
    if decided is None:
        return ()
    # A new reconcile request also verifies files that are stored: a disk may have been replaced.
    verified_on = {
        stored.node
        for stored in facts.files.stored
        if stored.path == inspection.path and stored.requested_at == inspection.requested_at
    }
    again = {node for node in decided.nodes if node not in verified_on}
    lacking = {
        node for node in decided.fetch_to if not is_stored(facts.files, inspection.path, node)
    }
    return tuple(sorted(lacking | again))


def _claim_node(facts: ModelFacts) -> str:
    """Return the only node where the claim's volume can be used, empty without a single one."""
    nodes = facts.files.claim.nodes or frozenset()
    return next(iter(nodes)) if len(nodes) == 1 else ""


def _inspection_pending(
    part: Part, inspections_planned: Sequence[JobFacts | None]
) -> Wait | Invalid:
    """Return why the source is not known yet: the worst problem, if all Jobs have one."""
    problems = [job.problem for job in inspections_planned if job and job.problem]
    worst = _worst(problems) if len(problems) == len(inspections_planned) else None
    if worst:
        return worst
    if not inspections_planned:
        return Wait(
            Reason.WAITING_FOR_NODE,
            "no node may run the model, so no node can be searched for its file: label a node"
            f" (kubectl label node NAME {labels.STRIX_HALO}=true), or change spec.pod.nodeSelector",
        )
    return Wait(Reason.INSPECTING, f"the header of the {part.role}'s file is being read")


def _worst(problems: Sequence[Problem]) -> Wait | Invalid | None:
    """Return the worst problem as an outcome, a final one first; None without problems."""
    worst = min(problems, key=lambda problem: not problem.final, default=None)
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
        arguments=_source_arguments(source, revision=hub.revision if hub else None) + kind,
    )


def _fetch(
    spec: LlamaModelSpec, facts: ModelFacts, part: Part, inspection: Inspection, node: str
) -> dict[str, Any]:
    more = ["--folder", inspection.folder, "--shards", str(inspection.shards)]
    if inspection.version:
        more += ["--version", inspection.version]
    return job(
        facts.owner,
        spec,
        facts.defaults,
        work=FETCH,
        role=part.role,
        node=node,
        source=part.source,
        about=inspection.path,
        requested_at=inspection.requested_at,
        arguments=_source_arguments(
            part.source, revision=inspection.revision, sha256=inspection.sha256
        )
        + more,
    )


def _source_arguments(source: Source, *, revision: str | None, sha256: str = "") -> list[str]:
    if source.hugging_face:
        arguments = ["--repo", source.hugging_face.repo, "--file", source.hugging_face.file]
        arguments += ["--revision", revision or "main"]
        return arguments + (["--sha256", sha256] if sha256 else [])
    if source.http:
        arguments = ["--url", source.http.url]
        return arguments + (["--sha256", source.http.sha256] if source.http.sha256 else [])
    assert source.local is not None  # noqa: S101  (the schema requires one of the three)
    return ["--path", source.local.path]
