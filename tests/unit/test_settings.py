"""The operator's settings: each mistake names its variable."""

from __future__ import annotations

import pytest

from llama_halo.errors import SettingsError
from llama_halo.plan.facts import PlacementScope
from llama_halo.settings import PREFIX, load_settings

IMAGE = {f"{PREFIX}IMAGE": "registry.example/halo:7"}


def test_the_defaults_need_an_image_alone() -> None:
    settings = load_settings({**IMAGE, "PATH": "/bin", f"{PREFIX}NAMESPACES": ""})
    assert settings.image == "registry.example/halo:7"
    assert settings.namespaces == ()
    assert settings.port == 8080


def test_values_are_read_in_their_units() -> None:
    named = {
        "NAMESPACES": "llm, team-b",
        "GPU_RESERVE": "12Gi",
        "STARTUP_TIMEOUT": "1h30m",
        "PLACEMENT_SCOPE": "Cluster",
        "STORE_RESERVE": "51200Mi",
    }
    settings = load_settings({**IMAGE, **{PREFIX + name: value for name, value in named.items()}})
    assert settings.namespaces == ("llm", "team-b")
    assert settings.gpu_reserve_mib == 12 * 1024
    assert settings.startup_seconds == 5400
    assert settings.store_reserve == "50Gi"
    assert settings.placement_scope is PlacementScope.CLUSTER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("WORKERS", "many"),
        ("PORT", "9" * 5000),
        ("GPU_RESERVE", "12 GB"),
        ("GPU_RESERVE", "-5Gi"),
        ("GPU_RESERVE", "inf"),
        ("STARTUP_TIMEOUT", "an hour"),
        ("PLACEMENT_SCOPE", "namespace"),
        ("ALLOW_PRIVILEGED", "no"),
        ("STORE_RESERVE", "150%"),
        ("STORE_RESERVE", "much"),
        ("STORE_RESERVE", "-1Gi"),
        ("GPU_RESERV", "12Gi"),
    ],
)
def test_a_mistake_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{PREFIX}{name}"):
        load_settings({**IMAGE, PREFIX + name: value})


def test_an_operator_without_an_image_cannot_start() -> None:
    with pytest.raises(SettingsError, match=f"{PREFIX}IMAGE is not set"):
        load_settings({})
