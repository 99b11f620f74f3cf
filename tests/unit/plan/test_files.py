"""What a plan does about files: who looks, who fetches, what goes on meanwhile, when Jobs go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract import labels
from llama_halo.contract.reasons import Reason
from llama_halo.gguf.companions import Companion
from llama_halo.plan import children
from llama_halo.plan.facts import (
    Assignment,
    ClaimFacts,
    DeploymentFacts,
    FileFacts,
    Inspection,
    JobFacts,
    Problem,
    StoredAt,
)
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.model_files import still_relevant
from llama_halo.plan.node_selection import GPU_NODE_LABELS
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Ref, Wait
from tests.support.golden import DEFAULTS
from tests.support.inspections import COMMIT, HUB, LOCAL, SHA, VISION_PROJECTOR, inspection
from tests.support.plans import demand_of, facts_of

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
CLAIM = {"persistentVolumeClaim": {"claimName": "models"}}
Json = dict[str, Any]


INSPECTED = FileFacts(inspections=(inspection(),))
STORED = replace(INSPECTED, stored=(StoredAt("n1", inspection().path, 2**21, SHA),))


def plan(
    files: FileFacts,
    more: Json | None = None,
    *,
    nodes: tuple[str, ...] = (),
    fetch_to: tuple[str, ...] = (),
    running: tuple[str, ...] = (),
    requested_at: str = "",
    candidates: tuple[str, ...] = ("n1", "n2"),
) -> Outcome:
    spec = LlamaModelSpec.model_validate({"source": HUB, **(more or {})})
    model_demand = demand_of(spec, files)
    reason = Reason.DOWNLOADING if fetch_to else None
    facts = facts_of(
        spec,
        defaults=replace(DEFAULTS, hub_endpoint="http://hub"),
        assignment=Assignment(model_demand, nodes, reason, "words", fetch_to)
        if model_demand
        else None,
        deployments=tuple(
            DeploymentFacts(children.deployment_name("coder", entry), entry, "old", settled=True)
            for entry in running
        ),
        files=files,
        requested_at=requested_at,
        candidates=candidates,
    )
    return plan_llamamodel(spec, facts)


def jobs(value: Outcome) -> list[Json]:
    assert isinstance(value, Plan), value
    return [dict(obj) for obj in value.objects if obj["kind"] == "Job"]


def arguments_of(job: Json) -> list[str]:
    args: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


def node_of(job: Json) -> str:
    return str((job["metadata"].get("annotations") or {}).get(labels.NODE, ""))


def waits(value: Outcome) -> Reason | None:
    assert isinstance(value, Plan), value
    return value.waiting.reason if value.waiting else None


def kept(value: Outcome) -> set[Ref]:
    assert isinstance(value, Plan), value
    return set(value.keep)


def as_facts(job: Json, **more: Any) -> JobFacts:
    """Return a planned Job as it is seen once it is there."""
    metadata = job["metadata"]
    return JobFacts(
        name=metadata["name"],
        work=metadata["labels"][labels.WORK],
        role=metadata["labels"][labels.ROLE],
        node=node_of(job),
        source=metadata["annotations"][labels.SOURCE],
        **more,
    )


def test_an_unknown_source_is_looked_at_and_what_runs_goes_on() -> None:
    outcome = plan(FileFacts(), running=("n1",))
    (job,) = jobs(outcome)
    assert arguments_of(job) == [
        *("inspect", "--repo", "o/r", "--file", "x-Q4_K_M.gguf", "--revision", "main"),
        *("--namespace", "llm"),
    ]
    assert waits(outcome) is Reason.INSPECTING
    assert Ref("Deployment", children.deployment_name("coder", "n1")) in kept(outcome)


def test_a_download_to_a_node_leaves_the_kubelet_its_disk_and_one_to_a_claim_no_share() -> None:
    (job,) = jobs(plan(INSPECTED, fetch_to=("n1",)))
    arguments = arguments_of(job)
    assert arguments[arguments.index("--reserve") + 1] == "15%"
    (job,) = jobs(plan(INSPECTED, {"store": CLAIM}))
    assert "--reserve" not in arguments_of(job)
    security = job["spec"]["template"]["spec"]["securityContext"]
    assert security["fsGroupChangePolicy"] == "OnRootMismatch"
    assert job["spec"]["activeDeadlineSeconds"] == 7 * 24 * 3600


def test_a_job_that_is_there_is_left_as_it_is() -> None:
    (job,) = jobs(plan(FileFacts()))
    outcome = plan(FileFacts(jobs=(as_facts(job),)))
    assert jobs(outcome) == []
    assert kept(outcome) == {Ref("Job", job["metadata"]["name"])}


def test_a_job_that_the_cluster_gave_up_is_made_anew() -> None:
    (job,) = jobs(plan(FileFacts()))
    outcome = plan(FileFacts(jobs=(as_facts(job, failed=True),)))
    assert (jobs(outcome), kept(outcome)) == ([], set())


@pytest.mark.parametrize(
    ("final", "kind"), [(True, Invalid), (False, Wait)], ids=["an answer", "tried again"]
)
def test_a_jobs_trouble_is_the_models(final: bool, kind: type) -> None:
    (job,) = jobs(plan(FileFacts()))
    trouble = Problem(Reason.NOT_A_GGUF, "it is text", final)
    outcome = plan(FileFacts(jobs=(as_facts(job, problem=trouble),)))
    assert isinstance(outcome, Plan)
    assert outcome.waiting == kind(Reason.NOT_A_GGUF, "it is text")
    assert kept(outcome) == {Ref("Job", job["metadata"]["name"])}


def test_a_bad_answer_ends_with_the_source_it_was_about() -> None:
    (job,) = jobs(plan(FileFacts()))
    message = as_facts(job, problem=Problem(Reason.NOT_A_GGUF, "it is text", final=True))
    other = {"source": {"huggingFace": {"repo": "o/r", "file": "y.gguf"}}}
    expected = FileFacts(jobs=(message,))
    for changed in (plan(expected, other), plan(expected, requested_at="now")):
        assert waits(changed) is Reason.INSPECTING
        assert len(jobs(changed)) == 1
        assert kept(changed) == set()


@pytest.mark.parametrize("final", [True, False])
def test_a_downloads_trouble_is_the_models_too(final: bool) -> None:
    (job,) = jobs(plan(INSPECTED, fetch_to=("n1",)))
    trouble = Problem(Reason.STORE_FULL, "no room", final)
    outcome = plan(replace(INSPECTED, jobs=(as_facts(job, problem=trouble),)), fetch_to=("n1",))
    assert isinstance(outcome, Plan)
    assert outcome.waiting == (Invalid if final else Wait)(Reason.STORE_FULL, "no room")


def test_an_answer_stays_until_the_status_has_it_then_its_job_goes() -> None:
    (job,) = jobs(plan(FileFacts()))
    answered = as_facts(job, answer=inspection())
    fresh = replace(INSPECTED, jobs=(answered,), recorded=False)
    outcome = plan(fresh, fetch_to=("n1",))
    assert Ref("Job", answered.name) in kept(outcome)
    assert isinstance(outcome, Plan)
    assert outcome.unrecorded
    outcome = plan(replace(fresh, recorded=True), fetch_to=("n1",))
    assert Ref("Job", answered.name) not in kept(outcome)


def test_files_are_fetched_where_placement_wants_them_by_commit_and_checksum() -> None:
    outcome = plan(INSPECTED, fetch_to=("n1",), running=("n1",))
    (job,) = jobs(outcome)
    assert arguments_of(job)[:9] == [
        *("fetch", "--repo", "o/r", "--file", "x-Q4_K_M.gguf", "--revision", COMMIT),
        *("--sha256", SHA),
    ]
    assert arguments_of(job)[9:13] == ["--folder", inspection().folder, "--shards", "1"]
    assert node_of(job) == "n1"
    assert waits(outcome) is Reason.DOWNLOADING
    assert Ref("Deployment", children.deployment_name("coder", "n1")) in kept(outcome)


def test_a_replica_whose_files_are_on_their_way_goes_on_beside_one_that_rolls() -> None:
    outcome = plan(STORED, {"replicas": 2}, nodes=("n1",), fetch_to=("n2",), running=("n1", "n2"))
    assert isinstance(outcome, Plan)
    assert [obj["metadata"]["annotations"][labels.NODE] for obj in outcome.objects[1:]] == [
        "n2",
        "n1",
    ]
    assert Ref("Deployment", children.deployment_name("coder", "n2")) in kept(outcome)


def test_the_server_reads_the_file_by_the_path_that_names_its_bytes() -> None:
    outcome = plan(STORED, nodes=("n1",))
    assert isinstance(outcome, Plan)
    container = outcome.objects[-1]["spec"]["template"]["spec"]["containers"][0]
    arguments = container["args"]
    assert f"/models/{inspection().path}" in arguments
    assert arguments[arguments.index("--ctx-size") + 1] == "32768"


def test_another_commit_with_the_same_bytes_rolls_nothing() -> None:
    moved = replace(STORED, inspections=(inspection(revision="d" * 40),))
    before, after = plan(STORED, nodes=("n1",)), plan(moved, nodes=("n1",))
    assert isinstance(before, Plan)
    assert isinstance(after, Plan)
    assert before.config_hash == after.config_hash


def test_asked_to_look_again_it_does_and_serves_what_it_knows_meanwhile() -> None:
    outcome = plan(STORED, nodes=("n1",), requested_at="now")
    assert [arguments_of(job)[0] for job in jobs(outcome)] == ["inspect"]
    assert waits(outcome) is None
    again = replace(STORED, inspections=(inspection(requested_at="now"),))
    outcome = plan(again, nodes=("n1",), requested_at="now")
    assert [arguments_of(job)[0] for job in jobs(outcome)] == ["fetch"], (
        "the files are looked at, too"
    )
    assert waits(outcome) is None
    observed = replace(again, stored=(replace(STORED.stored[0], requested_at="now"),))
    assert jobs(plan(observed, nodes=("n1",), requested_at="now")) == []


def test_another_token_asks_again_and_changes_nothing_that_is_known() -> None:
    secret = {"huggingFace": {**HUB["huggingFace"], "tokenSecretRef": {"name": "s", "key": "k"}}}
    (job,) = jobs(plan(FileFacts(), {"source": secret}))
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert environment[1]["valueFrom"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert job["metadata"]["name"] != jobs(plan(FileFacts()))[0]["metadata"]["name"]
    assert waits(plan(STORED, {"source": secret}, nodes=("n1",))) is None


def test_of_a_changed_source_nothing_is_believed() -> None:
    other = {"huggingFace": {"repo": "o/r", "file": "y.gguf"}}
    outcome = plan(STORED, {"source": other}, running=("n1",))
    assert waits(outcome) is Reason.INSPECTING
    assert "y.gguf" in arguments_of(jobs(outcome)[0])


def test_a_local_file_is_looked_for_on_every_node_that_may_run_the_model() -> None:
    outcome = plan(FileFacts(), {"source": LOCAL})
    assert sorted(node_of(job) for job in jobs(outcome)) == ["n1", "n2"]
    mount = jobs(outcome)[0]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]
    assert mount == {"name": "models", "mountPath": "/models", "readOnly": True}
    missing = Problem(Reason.SOURCE_NOT_FOUND, "there is no x.gguf")
    one_lacks_it = FileFacts(
        inspections=(inspection(LOCAL),),
        stored=(StoredAt("n1", "x-Q4_K_M.gguf", 1),),
        jobs=tuple(as_facts(job, problem=missing) for job in jobs(outcome) if node_of(job) == "n2"),
    )
    settled = plan(one_lacks_it, {"source": LOCAL}, nodes=("n1",))
    assert jobs(settled) == []
    assert [job.name for job in one_lacks_it.jobs] == [item.name for item in kept(settled)]


def test_until_every_node_has_said_no_a_local_file_may_be_found() -> None:
    value = jobs(plan(FileFacts(), {"source": LOCAL}))
    missing = Problem(Reason.SOURCE_NOT_FOUND, "there is no x.gguf")
    one = FileFacts(jobs=(as_facts(value[0], problem=missing), as_facts(value[1])))
    assert waits(plan(one, {"source": LOCAL})) is Reason.INSPECTING
    both = FileFacts(jobs=tuple(as_facts(item, problem=missing) for item in value))
    assert waits(plan(both, {"source": LOCAL})) is Reason.SOURCE_NOT_FOUND


def test_a_claim_gets_its_files_by_a_job_that_the_scheduler_places() -> None:
    store = {"store": CLAIM}
    outcome = plan(INSPECTED, store)
    (job,) = jobs(outcome)
    assert node_of(job) == ""
    assert job["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == 65532
    assert waits(outcome) is Reason.DOWNLOADING
    present = replace(INSPECTED, stored=(StoredAt("", inspection().path, 1),))
    served = plan(present, store, nodes=("n1",))
    assert waits(served) is None
    assert jobs(served) == []


@pytest.mark.parametrize("files", [FileFacts(), INSPECTED], ids=["inspect", "fetch"])
def test_a_job_on_a_claim_runs_only_where_the_model_may(files: FileFacts) -> None:
    """The first consumer decides on which node a local volume is, for ever."""
    (job,) = jobs(plan(files, {"store": CLAIM}))
    terms = required_terms(job)
    assert [term["matchExpressions"][0]["key"] for term in terms] == [
        key for key, _ in GPU_NODE_LABELS
    ]
    disk = {"key": "disk", "operator": "In", "values": ["nvme"]}
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [disk]}]}}}
    (job,) = jobs(plan(files, {"store": CLAIM, "pod": {"affinity": affinity}}))
    assert [term["matchExpressions"][0] for term in required_terms(job)] == [disk] * len(terms)
    (job,) = jobs(plan(files, {"store": CLAIM, "pod": {"nodeSelector": {"pool": "gpu"}}}))
    assert "affinity" not in job["spec"]["template"]["spec"]
    (job,) = jobs(plan(files, {"store": CLAIM, "backend": "CPU"}))
    assert "affinity" not in job["spec"]["template"]["spec"]


def test_a_job_has_what_policies_and_quotas_want_of_the_models_pods() -> None:
    pod = {
        "labels": {"owner-team": "ml"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "serviceAccountName": "models",
        "priorityClassName": "low",
        "resources": {"limits": {"cpu": "4"}},
    }
    for files in (FileFacts(), replace(INSPECTED)):
        (job,) = jobs(plan(files, {"pod": pod}, fetch_to=("n1",)))
        template = job["spec"]["template"]
        assert template["metadata"]["labels"]["owner-team"] == "ml"
        assert template["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
        assert template["spec"]["serviceAccountName"] == "models"
        assert template["spec"]["priorityClassName"] == "low"
        assert template["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "4"
        assert labels.MODEL not in template["metadata"]["labels"]


def required_terms(job: Json) -> list[Json]:
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    return list(affinity[REQUIRED]["nodeSelectorTerms"])


def test_a_claim_that_one_node_can_use_ties_download_and_server_to_it() -> None:
    tied = replace(INSPECTED, claim=ClaimFacts(nodes=frozenset({"n2"})))
    (job,) = jobs(plan(tied, {"store": CLAIM}))
    assert node_of(job) == "n2"
    present = replace(tied, stored=(StoredAt("n2", inspection().path, 1),))
    spec = LlamaModelSpec.model_validate({"source": HUB, "store": CLAIM})
    model_demand = demand_of(spec, present)
    assert model_demand is not None
    assert (model_demand.stored_on, model_demand.fetchable_to) == (frozenset({"n2"}), frozenset())


def test_a_claim_for_one_pod_only_is_refused() -> None:
    outcome = plan(replace(INSPECTED, claim=ClaimFacts(once_pod=True)), {"store": CLAIM})
    assert isinstance(outcome, Invalid)
    assert "models has the access mode ReadWriteOncePod" in outcome.message


def test_a_stopped_model_needs_no_file() -> None:
    outcome = plan(FileFacts(), {"replicas": 0}, running=("n1",))
    assert isinstance(outcome, Plan)
    assert outcome.replicas == 0
    assert Ref("Deployment", children.deployment_name("coder", "n1")) not in kept(outcome)


def test_old_files_are_remembered_until_the_new_ones_are_there() -> None:
    spec = LlamaModelSpec.model_validate({"source": HUB})
    old = StoredAt("n1", "hf/o/r/old/x.gguf", 1)
    expected = replace(INSPECTED, stored=(old,))
    assert still_relevant(spec, expected).stored == (old,)
    new = StoredAt("n1", inspection().path, 1)
    assert still_relevant(spec, replace(expected, stored=(new, old))).stored == (new,)


def test_names_and_labels_keep_jobs_out_of_the_models_service() -> None:
    (job,) = jobs(plan(FileFacts()))
    template = job["spec"]["template"]["metadata"]["labels"]
    assert labels.MODEL not in template
    assert template[labels.FILES_OF] == "coder"
    longest = "m" * 40
    assert len(job["metadata"]["name"].replace("coder", longest)) <= 63


PARTS: Json = {
    "projector": {"source": {"huggingFace": {"repo": "o/r", "file": "mmproj.gguf"}}},
    "draft": {"model": {"source": {"http": {"url": "https://host/draft.gguf"}}}},
    "adapters": [{"name": "sql", "source": {"local": {"path": "sql.gguf"}}, "scale": "0.5"}],
}
PART_INSPECTIONS = (
    inspection(),
    inspection(
        PARTS["projector"]["source"],
        role="projector",
        file="mmproj.gguf",
        folder="hf/o/r/mm",
        profile=None,
        companion=VISION_PROJECTOR,
    ),
    inspection(PARTS["draft"]["model"]["source"], role="draft", file="draft.gguf", folder="http/d"),
    inspection(
        PARTS["adapters"][0]["source"],
        role="adapter-sql",
        file="sql.gguf",
        folder="",
        profile=None,
        companion=Companion("adapter", "llama", 2**20),
    ),
)


def test_each_part_is_looked_at_for_what_it_has_to_be() -> None:
    outcome = plan(FileFacts(), PARTS)
    message = {
        (job["metadata"]["labels"][labels.ROLE], node_of(job)): arguments_of(job)
        for job in jobs(outcome)
    }
    assert sorted(message) == [
        *(("adapter-sql", "n1"), ("adapter-sql", "n2")),
        *(("draft", ""), ("model", ""), ("projector", "")),
    ]
    assert message["projector", ""][-4:] == ["--kind", "projector", "--namespace", "llm"]
    assert "--kind" not in message["draft", ""]
    assert message["adapter-sql", "n1"] == [
        *("inspect", "--path", "sql.gguf", "--kind", "adapter", "--store", "/models")
    ]
    assert waits(outcome) is Reason.INSPECTING


def test_a_part_that_is_not_known_yet_keeps_the_model_from_asking_for_a_place() -> None:
    spec = LlamaModelSpec.model_validate({"source": HUB, **PARTS})
    for missing in range(4):
        expected = tuple(item for index, item in enumerate(PART_INSPECTIONS) if index != missing)
        assert demand_of(spec, FileFacts(inspections=expected)) is None
        assert waits(plan(FileFacts(inspections=expected), PARTS)) is Reason.INSPECTING
    assert demand_of(spec, FileFacts(inspections=PART_INSPECTIONS)) is not None


def test_a_model_runs_where_all_its_parts_are_and_fetches_what_is_missing() -> None:
    spec = LlamaModelSpec.model_validate({"source": HUB, **PARTS})
    model, projector, draft, sql = PART_INSPECTIONS
    stored = (StoredAt("n1", model.path, 1), StoredAt("n1", sql.path, 1))
    files = FileFacts(inspections=PART_INSPECTIONS, stored=stored)
    model_demand = demand_of(spec, files)
    assert model_demand is not None
    # Only n1 has the adapter, which nothing can fetch.
    assert (model_demand.stored_on, model_demand.fetchable_to) == (frozenset(), frozenset({"n1"}))
    outcome = plan(files, PARTS, fetch_to=("n1",))
    fetched = {
        job["metadata"]["annotations"][labels.SOURCE]
        for job in jobs(outcome)
        if job["metadata"]["labels"][labels.WORK] == "fetch"
    }
    assert fetched == {projector.path, draft.path}
    assert waits(outcome) is Reason.DOWNLOADING
    all_there = tuple(StoredAt("n1", item.path, 1) for item in PART_INSPECTIONS)
    present = demand_of(spec, replace(files, stored=all_there))
    assert present is not None
    assert present.stored_on == frozenset({"n1"})


def test_the_server_gets_every_part_by_its_path() -> None:
    present = tuple(StoredAt("n1", item.path, 1) for item in PART_INSPECTIONS)
    outcome = plan(FileFacts(inspections=PART_INSPECTIONS, stored=present), PARTS, nodes=("n1",))
    assert isinstance(outcome, Plan)
    (deployment,) = [obj for obj in outcome.objects if obj["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    for flag, value in (
        ("--mmproj", "/models/hf/o/r/mm/mmproj.gguf"),
        ("--spec-type", "draft-simple"),
        ("--model-draft", "/models/http/d/draft.gguf"),
        ("--lora-scaled", "/models/sql.gguf:0.5"),
    ):
        assert arguments[arguments.index(flag) + 1] == value
    alone = demand_of(LlamaModelSpec.model_validate({"source": HUB}), INSPECTED)
    together = demand_of(
        LlamaModelSpec.model_validate({"source": HUB, **PARTS}),
        FileFacts(inspections=PART_INSPECTIONS),
    )
    assert alone is not None
    assert together is not None
    # Projector, draft and adapter: 1 + 176 MiB, the draft's own, 1 MiB.
    assert together.gpu_mib > 2 * alone.gpu_mib


@pytest.mark.parametrize(
    ("more", "inspections", "says"),
    [
        ({"draft": {"mtp": {}}}, (inspection(),), "no layers for multi-token prediction"),
        (
            {"adapters": PARTS["adapters"]},
            (
                inspection(),
                replace(PART_INSPECTIONS[3], companion=Companion("adapter", "qwen3", 1)),
            ),
            "sql is for models of the architecture qwen3",
        ),
    ],
)
def test_what_llama_cpp_would_not_start_with_is_refused_with_what_to_do(
    more: Json, inspections: tuple[Inspection, ...], says: str
) -> None:
    outcome = plan(FileFacts(inspections=inspections), more)
    assert isinstance(outcome, Plan)
    assert isinstance(outcome.waiting, Invalid)
    assert outcome.waiting.reason is Reason.UNSUPPORTED_MODEL
    assert says in outcome.waiting.message


def test_while_any_part_is_unknown_nothing_that_may_run_is_forgotten() -> None:
    model, projector, _, _ = PART_INSPECTIONS
    stored = (StoredAt("n1", model.path, 1), StoredAt("n1", projector.path, 1))
    files = FileFacts(inspections=(model, projector), stored=stored)
    other = {"source": {"huggingFace": {"repo": "o/r", "file": "y.gguf"}}}
    changed = LlamaModelSpec.model_validate({**other, "projector": PARTS["projector"]})
    assert still_relevant(changed, files).stored == stored
    alone = LlamaModelSpec.model_validate({"source": HUB})
    assert still_relevant(alone, files, in_use_on={"n1"}).stored == stored, "an old pod has it open"
    assert still_relevant(alone, files).stored == stored[:1]


def test_a_file_that_two_parts_share_is_fetched_once() -> None:
    twice = {
        "adapters": [
            {"name": name, "source": {"huggingFace": {"repo": "o/r", "file": "l.gguf"}}}
            for name in ("a", "b")
        ]
    }
    source = twice["adapters"][0]["source"]
    lora = inspection(
        source,
        file="l.gguf",
        profile=None,
        companion=Companion("adapter", "llama", 1),
        role="adapter-a",
        requested_at="T1",
    )
    expected = (
        inspection(requested_at="T1"),
        lora,
        replace(lora, role="adapter-b", requested_at=""),
    )
    stored = (StoredAt("n1", inspection().path, 1, requested_at="T1"),)
    value = jobs(plan(FileFacts(inspections=expected, stored=stored), twice, fetch_to=("n1",)))
    assert [item["metadata"]["labels"][labels.ROLE] for item in value] == ["adapter-a"]
    done = (*stored, StoredAt("n1", lora.path, 1, requested_at="T1"))
    assert jobs(plan(FileFacts(inspections=expected, stored=done), twice, nodes=("n1",))) == []


def test_beside_a_part_that_is_fetched_every_local_one_is_looked_for() -> None:
    """Or the model would be placed where its adapter is not."""
    all_said = {"contextSize": 4096, "memory": {"gpu": "1Gi", "host": "1Gi"}}
    adapters = {"adapters": PARTS["adapters"]}
    outcome = plan(FileFacts(), {**all_said, **adapters})
    assert {job["metadata"]["labels"][labels.ROLE] for job in jobs(outcome)} == {
        *("model", "adapter-sql")
    }
    local = {"source": LOCAL, **adapters, **all_said}
    assert jobs(plan(FileFacts(), local, nodes=("n1",))) == [], "all in the store, and all said"
    draft = {"model": {"source": {"local": {"path": "d.gguf"}}}}
    (look, _) = jobs(plan(FileFacts(), {**local, "draft": draft}, nodes=("n1",)))
    assert look["metadata"]["labels"][labels.ROLE] == "draft", "how it drafts its header tells"
