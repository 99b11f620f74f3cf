"""What an administrator forbids is refused by field; without restrictions nothing is."""

from __future__ import annotations

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.plan.restrictions import Restrictions, refusal
from tests.support.forbidden_specs import ALLOWED, FORBIDDEN, STRICT, Json, spec_of


def parse(kind: str, changes: Json) -> LlamaModelSpec | ModelRouterSpec:
    if kind == "LlamaModel":
        return LlamaModelSpec.model_validate(spec_of(kind, changes))
    return ModelRouterSpec.model_validate(spec_of(kind, changes))


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_is_forbidden_is_refused_with_its_field(case: str) -> None:
    kind, changes, text = FORBIDDEN[case]
    spec = parse(kind, changes)
    message = refusal(spec, STRICT)
    assert message is not None
    assert message.startswith("spec.")
    assert text in message
    assert refusal(spec, Restrictions()) is None


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_is_taken(case: str) -> None:
    assert refusal(parse(*ALLOWED[case]), STRICT) is None


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("/var/lib/llama-halo", True),
        ("/var/lib/llama-halo/", True),
        ("/var/lib/llama-halo/a/b", True),
        ("/var/lib/llama-halo/../../etc", False),
        ("//etc", False),
        ("/", False),
        ("//", False),
    ],
)
def test_a_directory_is_compared_as_the_node_resolves_it(path: str, is_allowed: bool) -> None:
    spec = LlamaModelSpec.model_construct(
        **vars(parse("LlamaModel", {"store": {"hostPath": {"path": "/x"}}}))
    )
    assert spec.store is not None
    host_path = spec.store.host_path
    assert host_path is not None
    store = spec.store.model_copy(update={"host_path": host_path.model_copy(update={"path": path})})
    assert (refusal(spec.model_copy(update={"store": store}), STRICT) is None) is is_allowed
