"""The cache: late, repeated and contradicting news."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llama_halo.kube.cache import Key, ObjectCache, key_of, watched_part


def pod(name: str = "p", *, uid: str = "u1", version: int = 1, model: str = "m") -> dict[str, Any]:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "llm",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"llama-halo.dev/model": model},
            "managedFields": [{"manager": "x"}],
        },
    }


OWNER = Key("LlamaModel", "llm", "m")


def test_an_older_version_of_the_same_object_is_ignored() -> None:
    cache = ObjectCache()
    assert cache.observe(pod(version=5))
    assert not cache.observe(pod(version=4))
    assert not cache.observe(pod(version=5))
    assert cache.observe(pod(version=6))


def test_a_deleted_object_does_not_come_back_by_a_late_event() -> None:
    cache = ObjectCache()
    cache.observe(pod(version=5))
    assert cache.forget(pod(version=6))
    assert not cache.observe(pod(version=5))
    assert cache.get(key_of(pod())) is None


def test_an_object_that_lost_its_label_and_got_it_back_is_seen_again() -> None:
    cache = ObjectCache()
    cache.observe(pod(version=5))
    assert cache.forget(pod(version=6)), "the labelled watch calls it deleted"
    assert cache.observe(pod(version=7))
    assert not cache.forget(pod(version=6)), "old news"
    assert len(cache.children(OWNER)) == 1


def test_an_object_made_anew_under_the_same_name_replaces_the_old_one() -> None:
    cache = ObjectCache()
    cache.observe(pod(uid="u1", version=5))
    assert cache.observe(pod(uid="u2", version=9))
    assert not cache.forget(pod(uid="u1", version=8)), "the old one's end is old news"
    assert not cache.observe(pod(uid="u1", version=7))
    live = cache.get(key_of(pod()))
    assert live is not None
    assert live["metadata"]["uid"] == "u2"


def test_a_list_removes_what_it_lacks_but_not_what_is_newer_than_it() -> None:
    cache = ObjectCache()
    cache.observe(pod("old", uid="u1", version=5))
    cache.observe(pod("new", uid="u2", version=50))
    changed = []
    cache.listen(lambda key, _, __: changed.append(key.name))
    cache.replace("Pod", [], 20)
    assert changed == ["old"]
    assert [item["metadata"]["name"] for item in cache.all("Pod")] == ["new"]


def test_children_are_found_by_their_owner_and_leave_with_their_label() -> None:
    cache = ObjectCache()
    cache.observe(pod(version=1))
    assert len(cache.children(OWNER)) == 1
    cache.observe(pod(version=2, model="other"))
    assert cache.children(OWNER) == []
    assert len(cache.children(Key("LlamaModel", "llm", "other"), "Pod")) == 1


def test_managed_fields_are_not_kept() -> None:
    cache = ObjectCache()
    cache.observe(pod())
    assert "managedFields" not in cache.all("Pod")[0]["metadata"]


news = st.lists(
    st.tuples(st.sampled_from(["observe", "forget"]), st.sampled_from("ab"), st.integers(1, 30)),
    max_size=30,
)


@given(news, st.randoms(use_true_random=False))
def test_the_order_of_news_does_not_matter_when_versions_differ(
    events: list[tuple[str, str, int]], random: Any
) -> None:
    def final(order: list[tuple[str, str, int]]) -> set[tuple[str, str]]:
        cache = ObjectCache()
        for action, name, version in order:
            obj = pod(name, uid=name, version=version)
            cache.forget(obj) if action == "forget" else cache.observe(obj)
        return {
            (item["metadata"]["name"], item["metadata"]["resourceVersion"])
            for item in cache.all("Pod")
        }

    events = list({version: (action, name, version) for action, name, version in events}.values())
    shuffled = list(events)
    random.shuffle(shuffled)
    assert final(events) == final(shuffled)


def test_of_pods_and_nodes_what_nobody_reads_is_not_kept() -> None:
    container = {"name": "c", "resources": {"requests": {"memory": "1Gi"}}, "env": [{"name": "A"}]}
    spec = {"nodeName": "n1", "volumes": [{"name": "v"}], "containers": [container], "dns": "x"}
    pod = {"kind": "Pod", "metadata": {"name": "a", "uid": "u"}, "spec": spec, "status": {"a": 1}}
    part = watched_part(pod)
    assert part["spec"] == {
        "nodeName": "n1",
        "volumes": [{"name": "v"}],
        "containers": [{"name": "c", "resources": container["resources"]}],
    }
    assert part["status"] == {"a": 1}
    for containers in (7, None, [7], {}):
        assert watched_part({**pod, "spec": {"containers": containers}})["spec"]["containers"] == []
    node = {"kind": "Node", "metadata": {}, "status": {"images": [{}], "allocatable": {}}}
    assert watched_part(node)["status"] == {"allocatable": {}}
