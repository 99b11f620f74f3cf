"""`python -m hack.pin_images [--check]`: pin the images that are not ours to digests.

These are the base images of the Dockerfiles and the default images of models. A tag can be moved by
whoever owns it, and default images run privileged. Needs `docker buildx` and access to the
registries; `--check` needs neither, lists the images without a digest, and fails when there is one.
After a renewal run `make quick`: a new default image rolls every model that sets no image.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
FILES = ("Dockerfile", "images/*/Dockerfile", "operator/llama_halo/settings.py")
_IMAGE = re.compile(
    r"(?P<name>(?:docker\.io|ghcr\.io)/(?!llama-halo/)[a-z0-9./_-]+:[\w.-]+)"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)


def files() -> list[Path]:
    """Return the files that name images of others."""
    return sorted(path for pattern in FILES for path in REPOSITORY.glob(pattern))


def unpinned(text: str) -> list[str]:
    """Return the images of a text that have no digest."""
    return [match["name"] for match in _IMAGE.finditer(text) if not match["digest"]]


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """Return a text with the digest that each image has now."""
    return _IMAGE.sub(lambda match: f"{match['name']}@{digest_of(match['name'])}", text)


def without_digests(text: str) -> str:
    """Return a text with tags alone, for a build from base images that no registry has."""
    return _IMAGE.sub(lambda match: match["name"], text)


def registry_digest(image: str) -> str:
    """Return the digest that a tag has in its registry; raises `SystemExit` when it cannot say."""
    command = ("docker", "buildx", "imagetools", "inspect", image)
    try:
        done = subprocess.run(
            (*command, "--format", "{{.Manifest.Digest}}"),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        sys.exit("docker is not on PATH: install it with its plugin buildx, then run this again")
    digest = done.stdout.strip()
    if done.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        sys.exit(f"{' '.join(command)} failed: {done.stderr.strip() or digest!r}")
    return digest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hack.pin_images", description=__doc__)
    parser.add_argument("--check", action="store_true", help="list images without a digest, fail")
    if parser.parse_args().check:
        problems = [
            f"{path.relative_to(REPOSITORY)}: {image}"
            for path in files()
            for image in unpinned(path.read_text())
        ]
        if problems:
            sys.exit("\n".join([*problems, "run `python -m hack.pin_images` and commit"]))
        return
    for path in files():
        text = path.read_text()
        renewed = pinned(text, registry_digest)
        if renewed != text:
            path.write_text(renewed)
            print(path.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()
