"""Images of others are pinned by digest, and ours are left alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hack.pin_images import files, pinned, registry_digest, unpinned, without_digests

OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64
TEXT = f"""FROM docker.io/library/python:3.13-slim-trixie AS build
FROM docker.io/library/node:22@{OLD}
ROCM = "docker.io/kyuz0/amd-strix-halo-toolboxes:rocm-7.14"
OURS = "ghcr.io/llama-halo/litellm:{{version}}"
"""


def test_every_image_of_others_gets_its_digest() -> None:
    asked: list[str] = []
    text = pinned(TEXT, lambda image: (asked.append(image), NEW)[1])
    assert asked == [
        "docker.io/library/python:3.13-slim-trixie",
        "docker.io/library/node:22",
        "docker.io/kyuz0/amd-strix-halo-toolboxes:rocm-7.14",
    ]
    assert text.count(f"@{NEW}") == 3
    assert OLD not in text
    assert unpinned(text) == []
    assert pinned(text, lambda _: NEW) == text
    assert without_digests(text) == TEXT.replace(f"@{OLD}", "")


def test_what_is_not_pinned_is_listed() -> None:
    assert unpinned(TEXT) == [
        "docker.io/library/python:3.13-slim-trixie",
        "docker.io/kyuz0/amd-strix-halo-toolboxes:rocm-7.14",
    ]


def test_every_default_image_and_base_image_is_seen() -> None:
    """A reference that the pattern misses would float without a word."""
    images = {image for path in files() for image in unpinned(without_digests(path.read_text()))}
    assert len(images) == 9, images
    for path in files():
        bases = [line for line in path.read_text().splitlines() if line.startswith("FROM ")]
        assert all("docker.io/" in line for line in bases), path


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo no such manifest >&2; exit 1", "no such manifest"),
        ("echo '<no value>'", "'<no value>'"),
    ],
)
def test_a_registry_that_has_no_answer_ends_the_run(
    script: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SystemExit, match=text):
        registry_digest("docker.io/library/node:22")
    docker.write_text(f"#!/bin/sh\necho {NEW}\n")
    assert registry_digest("docker.io/library/node:22") == NEW
