"""What a plan does about files: who looks, who fetches, what goes on meanwhile, when Jobs go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec, Source
from llama_halo.api.reasons import Reason
from llama_halo.gguf.companions import Companion
from llama_halo.gguf.header import read_header
from llama_halo.gguf.profile import profile
from llama_halo.plan import labels
from llama_halo.plan.facts import (
    Assignment,
    ClaimFacts,
    DeploymentFacts,
    FileFacts,
    Identity,
    Inspection,
    JobFacts,
    ModelFacts,
    Problem,
    StoredAt,
)
from llama_halo.plan.llamamodel import demand, plan_llamamodel
from llama_halo.plan.model_files import current, source_key
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Ref, Wait
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS
from tests.support.golden import DEFAULTS

OWNER = Identity("LlamaModel", "llm", "coder", "uid-1", 1)
HUB = {"huggingFace": {"repo": "o/r", "file": "x-Q4_K_M.gguf"}}
LOCAL = {"local": {"path": "x.gguf"}}
CLAIM = {"persistentVolumeClaim": {"claimName": "models"}}
COMMIT, SHA = "c" * 40, "a" * 64
Json = dict[str, Any]


def inspection(source: Json | None = None, **more: Any) -> Inspection:
    data = header_bytes(MODELS["llama-3.2-3b"], [("output.weight", [2**20], 1, 0)])
    header = read_header(lambda offset, count: data[offset : offset + count])
    known = Inspection(
        role="model",
        source=source_key(Source.model_validate(source or HUB)),
        file="x-Q4_K_M.gguf",
        bytes=2**21,
        shards=1,
        folder="" if source == LOCAL else f"hf/o/r/{SHA[:16]}",
        sha256=SHA,
        revision=COMMIT,
        profile=profile(header, "x-Q4_K_M.gguf"),
    )
    return replace(known, **more)


SEES = Companion("projector", "gemma3", 2**20, positions=4096, values=11216, sees=True)
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
    wanted = demand(OWNER, spec, files)
    reason = Reason.DOWNLOADING if fetch_to else None
    facts = ModelFacts(
        owner=OWNER,
        defaults=replace(DEFAULTS, hub_endpoint="http://hub"),
        assignment=Assignment(wanted, nodes, reason, "words", fetch_to) if wanted else None,
        deployments=tuple(
            DeploymentFacts(labels.deployment_name("coder", each), each, "old", settled=True)
            for each in running
        ),
        files=files,
        requested_at=requested_at,
        candidates=candidates,
    )
    return plan_llamamodel(spec, facts)


def jobs(found: Outcome) -> list[Json]:
    assert isinstance(found, Plan), found
    return [dict(each) for each in found.objects if each["kind"] == "Job"]


def words(job: Json) -> list[str]:
    found: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def node_of(job: Json) -> str:
    return str((job["metadata"].get("annotations") or {}).get(labels.NODE, ""))


def waits(found: Outcome) -> Reason | None:
    assert isinstance(found, Plan), found
    return found.waiting.reason if found.waiting else None


def kept(found: Outcome) -> set[Ref]:
    assert isinstance(found, Plan), found
    return set(found.keep)


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
    found = plan(FileFacts(), running=("n1",))
    (job,) = jobs(found)
    assert words(job) == [
        *("inspect", "--repo", "o/r", "--file", "x-Q4_K_M.gguf", "--revision", "main")
    ]
    assert waits(found) is Reason.INSPECTING
    assert Ref("Deployment", labels.deployment_name("coder", "n1")) in kept(found)


def test_a_job_that_is_there_is_left_as_it_is() -> None:
    (job,) = jobs(plan(FileFacts()))
    found = plan(FileFacts(jobs=(as_facts(job),)))
    assert jobs(found) == []
    assert kept(found) == {Ref("Job", job["metadata"]["name"])}


def test_a_job_that_the_cluster_gave_up_is_made_anew() -> None:
    (job,) = jobs(plan(FileFacts()))
    found = plan(FileFacts(jobs=(as_facts(job, failed=True),)))
    assert (jobs(found), kept(found)) == ([], set())


@pytest.mark.parametrize(
    ("final", "kind"), [(True, Invalid), (False, Wait)], ids=["an answer", "tried again"]
)
def test_a_jobs_trouble_is_the_models(final: bool, kind: type) -> None:
    (job,) = jobs(plan(FileFacts()))
    trouble = Problem(Reason.NOT_A_GGUF, "it is text", final)
    found = plan(FileFacts(jobs=(as_facts(job, problem=trouble),)))
    assert isinstance(found, Plan)
    assert found.waiting == kind(Reason.NOT_A_GGUF, "it is text")
    assert kept(found) == {Ref("Job", job["metadata"]["name"])}


def test_a_bad_answer_ends_with_the_source_it_was_about() -> None:
    (job,) = jobs(plan(FileFacts()))
    told = as_facts(job, problem=Problem(Reason.NOT_A_GGUF, "it is text", final=True))
    other = {"source": {"huggingFace": {"repo": "o/r", "file": "y.gguf"}}}
    known = FileFacts(jobs=(told,))
    for changed in (plan(known, other), plan(known, requested_at="now")):
        assert waits(changed) is Reason.INSPECTING
        assert len(jobs(changed)) == 1
        assert kept(changed) == set()


@pytest.mark.parametrize("final", [True, False])
def test_a_downloads_trouble_is_the_models_too(final: bool) -> None:
    (job,) = jobs(plan(INSPECTED, fetch_to=("n1",)))
    trouble = Problem(Reason.STORE_FULL, "no room", final)
    found = plan(replace(INSPECTED, jobs=(as_facts(job, problem=trouble),)), fetch_to=("n1",))
    assert isinstance(found, Plan)
    assert found.waiting == (Invalid if final else Wait)(Reason.STORE_FULL, "no room")


def test_an_answer_stays_until_the_status_has_it_then_its_job_goes() -> None:
    (job,) = jobs(plan(FileFacts()))
    answered = as_facts(job, answer=inspection())
    fresh = replace(INSPECTED, jobs=(answered,), recorded=False)
    found = plan(fresh, fetch_to=("n1",))
    assert Ref("Job", answered.name) in kept(found)
    assert isinstance(found, Plan)
    assert found.unrecorded
    found = plan(replace(fresh, recorded=True), fetch_to=("n1",))
    assert Ref("Job", answered.name) not in kept(found)


def test_files_are_fetched_where_placement_wants_them_by_commit_and_checksum() -> None:
    found = plan(INSPECTED, fetch_to=("n1",), running=("n1",))
    (job,) = jobs(found)
    assert words(job)[:9] == [
        *("fetch", "--repo", "o/r", "--file", "x-Q4_K_M.gguf", "--revision", COMMIT),
        *("--sha256", SHA),
    ]
    assert words(job)[9:13] == ["--folder", inspection().folder, "--shards", "1"]
    assert node_of(job) == "n1"
    assert waits(found) is Reason.DOWNLOADING
    assert Ref("Deployment", labels.deployment_name("coder", "n1")) in kept(found)


def test_a_replica_whose_files_are_on_their_way_goes_on_beside_one_that_rolls() -> None:
    found = plan(STORED, {"replicas": 2}, nodes=("n1",), fetch_to=("n2",), running=("n1", "n2"))
    assert isinstance(found, Plan)
    assert [each["metadata"]["annotations"][labels.NODE] for each in found.objects[1:]] == [
        "n2",
        "n1",
    ]
    assert Ref("Deployment", labels.deployment_name("coder", "n2")) in kept(found)


def test_the_server_reads_the_file_by_the_path_that_names_its_bytes() -> None:
    found = plan(STORED, nodes=("n1",))
    assert isinstance(found, Plan)
    container = found.objects[-1]["spec"]["template"]["spec"]["containers"][0]
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
    found = plan(STORED, nodes=("n1",), requested_at="now")
    assert [words(job)[0] for job in jobs(found)] == ["inspect"]
    assert waits(found) is None
    again = replace(STORED, inspections=(inspection(requested_at="now"),))
    found = plan(again, nodes=("n1",), requested_at="now")
    assert [words(job)[0] for job in jobs(found)] == ["fetch"], "the files are looked at, too"
    assert waits(found) is None
    seen = replace(again, stored=(replace(STORED.stored[0], requested_at="now"),))
    assert jobs(plan(seen, nodes=("n1",), requested_at="now")) == []


def test_another_token_asks_again_and_changes_nothing_that_is_known() -> None:
    secret = {"huggingFace": {**HUB["huggingFace"], "tokenSecretRef": {"name": "s", "key": "k"}}}
    (job,) = jobs(plan(FileFacts(), {"source": secret}))
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert environment[1]["valueFrom"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert job["metadata"]["name"] != jobs(plan(FileFacts()))[0]["metadata"]["name"]
    assert waits(plan(STORED, {"source": secret}, nodes=("n1",))) is None


def test_of_a_changed_source_nothing_is_believed() -> None:
    other = {"huggingFace": {"repo": "o/r", "file": "y.gguf"}}
    found = plan(STORED, {"source": other}, running=("n1",))
    assert waits(found) is Reason.INSPECTING
    assert "y.gguf" in words(jobs(found)[0])


def test_a_local_file_is_looked_for_on_every_node_that_may_run_the_model() -> None:
    found = plan(FileFacts(), {"source": LOCAL})
    assert sorted(node_of(job) for job in jobs(found)) == ["n1", "n2"]
    mount = jobs(found)[0]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]
    assert mount == {"name": "models", "mountPath": "/models", "readOnly": True}
    missing = Problem(Reason.SOURCE_NOT_FOUND, "there is no x.gguf")
    one_lacks_it = FileFacts(
        inspections=(inspection(LOCAL),),
        stored=(StoredAt("n1", "x-Q4_K_M.gguf", 1),),
        jobs=tuple(as_facts(job, problem=missing) for job in jobs(found) if node_of(job) == "n2"),
    )
    settled = plan(one_lacks_it, {"source": LOCAL}, nodes=("n1",))
    assert jobs(settled) == []
    assert [each.name for each in one_lacks_it.jobs] == [each.name for each in kept(settled)]


def test_until_every_node_has_said_no_a_local_file_may_be_found() -> None:
    found = jobs(plan(FileFacts(), {"source": LOCAL}))
    missing = Problem(Reason.SOURCE_NOT_FOUND, "there is no x.gguf")
    one = FileFacts(jobs=(as_facts(found[0], problem=missing), as_facts(found[1])))
    assert waits(plan(one, {"source": LOCAL})) is Reason.INSPECTING
    both = FileFacts(jobs=tuple(as_facts(each, problem=missing) for each in found))
    assert waits(plan(both, {"source": LOCAL})) is Reason.SOURCE_NOT_FOUND


def test_a_claim_gets_its_files_by_a_job_that_the_scheduler_places() -> None:
    store = {"store": CLAIM}
    found = plan(INSPECTED, store)
    (job,) = jobs(found)
    assert node_of(job) == ""
    assert "affinity" not in job["spec"]["template"]["spec"]
    assert job["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == 65532
    assert waits(found) is Reason.DOWNLOADING
    there = replace(INSPECTED, stored=(StoredAt("", inspection().path, 1),))
    served = plan(there, store, nodes=("n1",))
    assert waits(served) is None
    assert jobs(served) == []


def test_a_claim_that_one_node_can_use_ties_download_and_server_to_it() -> None:
    tied = replace(INSPECTED, claim=ClaimFacts(nodes=frozenset({"n2"})))
    (job,) = jobs(plan(tied, {"store": CLAIM}))
    assert node_of(job) == "n2"
    there = replace(tied, stored=(StoredAt("n2", inspection().path, 1),))
    spec = LlamaModelSpec.model_validate({"source": HUB, "store": CLAIM})
    wanted = demand(OWNER, spec, there)
    assert wanted is not None
    assert (wanted.stored_on, wanted.fetchable_to) == (frozenset({"n2"}), frozenset())


def test_a_claim_for_one_pod_only_is_refused() -> None:
    found = plan(replace(INSPECTED, claim=ClaimFacts(once_pod=True)), {"store": CLAIM})
    assert isinstance(found, Invalid)
    assert "models has the access mode ReadWriteOncePod" in found.message


def test_a_stopped_model_needs_no_file() -> None:
    found = plan(FileFacts(), {"replicas": 0}, running=("n1",))
    assert isinstance(found, Plan)
    assert found.replicas == 0
    assert Ref("Deployment", labels.deployment_name("coder", "n1")) not in kept(found)


def test_old_files_are_remembered_until_the_new_ones_are_there() -> None:
    spec = LlamaModelSpec.model_validate({"source": HUB})
    old = StoredAt("n1", "hf/o/r/old/x.gguf", 1)
    known = replace(INSPECTED, stored=(old,))
    assert current(spec, known).stored == (old,)
    new = StoredAt("n1", inspection().path, 1)
    assert current(spec, replace(known, stored=(new, old))).stored == (new,)


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
        companion=SEES,
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
    found = plan(FileFacts(), PARTS)
    told = {
        (each["metadata"]["labels"][labels.ROLE], node_of(each)): words(each)
        for each in jobs(found)
    }
    assert sorted(told) == [
        *(("adapter-sql", "n1"), ("adapter-sql", "n2")),
        *(("draft", ""), ("model", ""), ("projector", "")),
    ]
    assert told["projector", ""][-2:] == ["--kind", "projector"]
    assert "--kind" not in told["draft", ""]
    assert told["adapter-sql", "n1"] == [
        *("inspect", "--path", "sql.gguf", "--kind", "adapter", "--store", "/models")
    ]
    assert waits(found) is Reason.INSPECTING


def test_a_part_that_is_not_known_yet_keeps_the_model_from_asking_for_a_place() -> None:
    spec = LlamaModelSpec.model_validate({"source": HUB, **PARTS})
    for missing in range(4):
        known = tuple(each for index, each in enumerate(PART_INSPECTIONS) if index != missing)
        assert demand(OWNER, spec, FileFacts(inspections=known)) is None
        assert waits(plan(FileFacts(inspections=known), PARTS)) is Reason.INSPECTING
    assert demand(OWNER, spec, FileFacts(inspections=PART_INSPECTIONS)) is not None


def test_a_model_runs_where_all_its_parts_are_and_fetches_what_is_missing() -> None:
    spec = LlamaModelSpec.model_validate({"source": HUB, **PARTS})
    model, projector, draft, sql = PART_INSPECTIONS
    stored = (StoredAt("n1", model.path, 1), StoredAt("n1", sql.path, 1))
    files = FileFacts(inspections=PART_INSPECTIONS, stored=stored)
    wanted = demand(OWNER, spec, files)
    assert wanted is not None
    # Only n1 has the adapter, which nothing can fetch.
    assert (wanted.stored_on, wanted.fetchable_to) == (frozenset(), frozenset({"n1"}))
    found = plan(files, PARTS, fetch_to=("n1",))
    fetched = {
        each["metadata"]["annotations"][labels.SOURCE]
        for each in jobs(found)
        if each["metadata"]["labels"][labels.WORK] == "fetch"
    }
    assert fetched == {projector.path, draft.path}
    assert waits(found) is Reason.DOWNLOADING
    all_there = tuple(StoredAt("n1", each.path, 1) for each in PART_INSPECTIONS)
    there = demand(OWNER, spec, replace(files, stored=all_there))
    assert there is not None
    assert there.stored_on == frozenset({"n1"})


def test_the_server_gets_every_part_by_its_path() -> None:
    there = tuple(StoredAt("n1", each.path, 1) for each in PART_INSPECTIONS)
    found = plan(FileFacts(inspections=PART_INSPECTIONS, stored=there), PARTS, nodes=("n1",))
    assert isinstance(found, Plan)
    (deployment,) = [each for each in found.objects if each["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    for flag, value in (
        ("--mmproj", "/models/hf/o/r/mm/mmproj.gguf"),
        ("--spec-type", "draft-simple"),
        ("--model-draft", "/models/http/d/draft.gguf"),
        ("--lora-scaled", "/models/sql.gguf:0.5"),
    ):
        assert arguments[arguments.index(flag) + 1] == value
    alone = demand(OWNER, LlamaModelSpec.model_validate({"source": HUB}), INSPECTED)
    together = demand(
        OWNER,
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
    found = plan(FileFacts(inspections=inspections), more)
    assert isinstance(found, Plan)
    assert isinstance(found.waiting, Invalid)
    assert found.waiting.reason is Reason.UNSUPPORTED_MODEL
    assert says in found.waiting.message


def test_while_any_part_is_unknown_nothing_that_may_run_is_forgotten() -> None:
    model, projector, _, _ = PART_INSPECTIONS
    stored = (StoredAt("n1", model.path, 1), StoredAt("n1", projector.path, 1))
    files = FileFacts(inspections=(model, projector), stored=stored)
    other = {"source": {"huggingFace": {"repo": "o/r", "file": "y.gguf"}}}
    changed = LlamaModelSpec.model_validate({**other, "projector": PARTS["projector"]})
    assert current(changed, files).stored == stored
    alone = LlamaModelSpec.model_validate({"source": HUB})
    assert current(alone, files, in_use_on={"n1"}).stored == stored, "an old pod has it open"
    assert current(alone, files).stored == stored[:1]


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
    known = (inspection(requested_at="T1"), lora, replace(lora, role="adapter-b", requested_at=""))
    stored = (StoredAt("n1", inspection().path, 1, requested_at="T1"),)
    found = jobs(plan(FileFacts(inspections=known, stored=stored), twice, fetch_to=("n1",)))
    assert [each["metadata"]["labels"][labels.ROLE] for each in found] == ["adapter-a"]
    done = (*stored, StoredAt("n1", lora.path, 1, requested_at="T1"))
    assert jobs(plan(FileFacts(inspections=known, stored=done), twice, nodes=("n1",))) == []


def test_beside_a_part_that_is_fetched_every_local_one_is_looked_for() -> None:
    """Or the model would be placed where its adapter is not."""
    all_said = {"contextSize": 4096, "memory": {"gpu": "1Gi", "host": "1Gi"}}
    adapters = {"adapters": PARTS["adapters"]}
    found = plan(FileFacts(), {**all_said, **adapters})
    assert {each["metadata"]["labels"][labels.ROLE] for each in jobs(found)} == {
        *("model", "adapter-sql")
    }
    local = {"source": LOCAL, **adapters, **all_said}
    assert jobs(plan(FileFacts(), local, nodes=("n1",))) == [], "all in the store, and all said"
    draft = {"model": {"source": {"local": {"path": "d.gguf"}}}}
    (look, _) = jobs(plan(FileFacts(), {**local, "draft": draft}, nodes=("n1",)))
    assert look["metadata"]["labels"][labels.ROLE] == "draft", "how it drafts its header tells"
