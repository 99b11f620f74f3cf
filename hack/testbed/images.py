"""Container images of the testbed, built with buildah and loaded into the node's containerd.

No registry is reached: the Dockerfiles' base image is made by debootstrap and carries the name that
they ask for. Images live in the cache under a key of everything that went into them.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hack.pin_images import without_digests
from hack.testbed import clients, llama_server, minilm, whisper
from hack.testbed.layout import CACHE, CONTAINERD_SOCKET, REPOSITORY, VERSION
from hack.testbed.llama_server import MODEL_FILE
from hack.testbed.locks import locked, make_once
from hack.testbed.node import MODEL_STORE, PAUSE_IMAGE
from hack.testbed.shell import TestbedError, run, say, succeeds

HERE = Path(__file__).parent
BASE_IMAGE = "docker.io/library/python:3.13-slim-trixie"
NODE_BASE_IMAGE = "docker.io/library/node:22-trixie-slim"
OPERATOR_IMAGE = f"ghcr.io/llama-halo/llama-halo:{VERSION}"
SERVER_IMAGE = "localhost/llama-server:testbed"
WHISPER_IMAGE = "localhost/whisper-server:testbed"
CLAUDE_CODE_ROUTER_IMAGES = {
    version: f"ghcr.io/llama-halo/claude-code-router:{version}" for version in ("1.0.73", "2.0.0")
}
LITELLM_IMAGE = "ghcr.io/llama-halo/litellm:1.106.2"
LLAMA_SWAP_IMAGE = "ghcr.io/llama-halo/llama-swap:v250"
KEPT_ARCHIVES = 3

_STORAGE = CACHE / "buildah"
_BUILDAH = (
    "buildah",
    *("--root", str(_STORAGE / "root"), "--runroot", str(_STORAGE / "run")),
    *("--storage-driver", "overlay"),
)
# What a build reaches the package index with, the same as this machine does.
_BUILD_NETWORK = (
    *("--isolation", "chroot", "--pull-never", "--network", "host"),
    *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
    *("--volume", "/etc/resolv.conf:/etc/resolv.conf:ro"),
    *("--env", "PIP_CERT=/etc/ssl/certs/ca-certificates.crt"),
    *("--env", "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"),
)
_OPERATOR_INPUTS = ("Dockerfile", "pyproject.toml", "README.md", "LICENSE", "requirements")


@dataclass(frozen=True)
class Recipe:
    """How an image is built; `key` hashes all inputs."""

    dockerfile: Path
    context: Callable[[], Path]
    key: Callable[[], str]
    bases: Callable[[], None]
    arguments: tuple[str, ...] = ()


def load(name: str) -> None:
    """Build an image unless it is in the cache, and import it into the node's containerd."""
    recipe = _recipe(name)
    key = recipe.key()
    if not _imported(name, key):
        _import(name, key, _archive(name, key, recipe))


def build(name: str) -> Path:
    """Build an image unless it is in the cache, and return its archive."""
    recipe = _recipe(name)
    return _archive(name, recipe.key(), recipe)


def built_here() -> tuple[str, ...]:
    """Return the names of the images that the testbed builds."""
    return tuple(_recipes())


def _recipe(name: str) -> Recipe:
    recipes = _recipes()
    if name not in recipes:
        raise TestbedError(f"no recipe for image {name}; the testbed builds {', '.join(recipes)}")
    return recipes[name]


def _recipes() -> dict[str, Recipe]:
    server, whisper_dockerfile = (
        HERE / "llama-server.Dockerfile",
        HERE / "whisper-server.Dockerfile",
    )
    router = REPOSITORY / "images/claude-code-router"
    litellm, pins = REPOSITORY / "images/litellm/Dockerfile", REPOSITORY / "requirements"
    return {
        PAUSE_IMAGE: Recipe(
            HERE / "pause.Dockerfile", _pause_program, lambda: _digest(HERE / "pause.c"), _no_base
        ),
        OPERATOR_IMAGE: Recipe(
            REPOSITORY / "Dockerfile", lambda: REPOSITORY, operator_key, _ensure_base
        ),
        SERVER_IMAGE: Recipe(
            server,
            lambda: llama_server.binary().parent,
            lambda: f"{_digest(server)}-{llama_server.binary().parent.parent.name}",
            _ensure_base,
        ),
        WHISPER_IMAGE: Recipe(
            whisper_dockerfile,
            lambda: whisper.binary().parent,
            lambda: f"{_digest(whisper_dockerfile)}-{whisper.binary().parent.parent.name}",
            _ensure_base,
        ),
        LITELLM_IMAGE: Recipe(
            litellm, lambda: pins, lambda: _digest(litellm, pins / "litellm.txt"), _ensure_base
        ),
        **{
            name: Recipe(
                router / "Dockerfile",
                lambda: router,
                lambda: _digest(router),
                _ensure_node_base,
                ("--build-arg", f"VERSION={version}"),
            )
            for version, name in CLAUDE_CODE_ROUTER_IMAGES.items()
        },
    }


def load_llama_swap(program: Path) -> None:
    """Import an image of a llama-swap that is there: no registry has one to build it from."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(program, Path(folder) / "llama-swap")
        recipe = Path(folder) / "Dockerfile"
        recipe.write_text(f"FROM {BASE_IMAGE}\nCOPY llama-swap /usr/local/bin/\nUSER 65532:65532\n")
        key = _digest(program)
        swap_recipe = Recipe(recipe, lambda: Path(folder), lambda: key, _ensure_base)
        _import(LLAMA_SWAP_IMAGE, key, _archive(LLAMA_SWAP_IMAGE, key, swap_recipe))


def model_path(name: str) -> Path:
    """Return where a small real model of the testbed is, downloaded once."""
    model_files = {
        "smollm2": llama_server.model_file,
        "minilm": minilm.model_file,
        "whisper": whisper.model_file,
    }
    return model_files[name]()


def install_model(name: str) -> Path:
    """Put a small real model into the node's model store and return its path."""
    source = model_path(name)
    target = MODEL_STORE / name / source.name
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return target


def tag(name: str, other: str) -> None:
    """Give an image of the node a second name."""
    run(*_ctr("images", "tag", "--force", name, other))


def remove_models() -> None:
    """Take our models out of the node's store, and nothing else."""
    files = {
        "smollm2": MODEL_FILE,
        "minilm": minilm.MODEL_FILE,
        "whisper": whisper.MODEL_FILE,
    }
    for name, file in files.items():
        (MODEL_STORE / name / file).unlink(missing_ok=True)
        for folder in (MODEL_STORE / name, MODEL_STORE, MODEL_STORE.parent):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def docker_recipe(name: str) -> tuple[Path, Path, tuple[str, ...]]:
    """Return Dockerfile, build context and arguments of an image, for `docker build`."""
    recipe = _recipe(name)
    return recipe.dockerfile, recipe.context(), recipe.arguments


def operator_key() -> str:
    """Return the key of everything that goes into the operator's image."""
    inputs = [REPOSITORY / name for name in _OPERATOR_INPUTS]
    return _digest(*inputs, *sorted((REPOSITORY / "operator").rglob("*.py")))


def _pause_program() -> Path:
    """Compile the program of the pause image and return the folder that it is in."""
    folder = CACHE / "images" / "pause"
    folder.mkdir(parents=True, exist_ok=True)
    run("cc", "-static", "-O2", "-o", folder / "pause", HERE / "pause.c", description="pause image")
    return folder


def _no_base() -> None:
    """Do nothing: the image is built from scratch."""


def _archive(name: str, key: str, recipe: Recipe) -> Path:
    """Return the archive of an image, built when the cache lacks it."""
    stem = name.rpartition("/")[2].replace(":", "-")

    def make(archive: Path) -> None:
        # One build at a time: they share buildah's store and the base images in it.
        with locked("buildah"):
            _build(name, key, recipe, archive)
        _drop_older(archive.parent, stem)

    return make_once(CACHE / "images" / f"{stem}-{key}.tar", make)


def _build(name: str, key: str, recipe: Recipe, archive: Path) -> None:
    started = time.monotonic()
    say(f"building image {name}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    recipe.bases()
    with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as dockerfile:
        # The base images are made here, and have the tags but not the digests of the registries'.
        dockerfile.write(without_digests(recipe.dockerfile.read_text()))
        dockerfile.flush()
        run(
            *_BUILDAH,
            *("bud", "--layers", *_BUILD_NETWORK, "--label", f"llama-halo.dev/testbed-key={key}"),
            *(*recipe.arguments, "-t", name, "-f", dockerfile.name, recipe.context()),
            description=f"building {name}",
        )
    unfinished = archive.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    run(*_BUILDAH, "push", "-q", name, f"docker-archive:{unfinished}:{name}")
    unfinished.rename(archive)
    say(f"built image {name} in {time.monotonic() - started:.0f} s")


def _import(name: str, key: str, archive: Path) -> None:
    run(*_ctr("images", "import", archive), description=f"importing {name}")
    run(*_ctr("images", "label", name, f"llama-halo.dev/testbed-key={key}"))


def _drop_older(folder: Path, stem: str) -> None:
    """Keep the last few archives of an image: each edit of the operator makes one of 500 MB."""
    archives = sorted(folder.glob(f"{stem}-*.tar"), key=lambda archive: archive.stat().st_mtime)
    for archive in archives[:-KEPT_ARCHIVES]:
        archive.unlink(missing_ok=True)


def _imported(name: str, key: str) -> bool:
    listed = run(*_ctr("images", "ls", f"name=={name}"))
    return f"llama-halo.dev/testbed-key={key}" in listed


def _ctr(*arguments: str | Path) -> tuple[str | Path, ...]:
    return ("ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", *arguments)


def _ensure_base() -> None:
    """Make the base image from Debian's own packages, once a machine."""
    if succeeds(*_BUILDAH, "inspect", "--type", "image", BASE_IMAGE):
        return
    started = time.monotonic()
    say("making the base image with debootstrap (once)")
    _STORAGE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_STORAGE) as folder:
        root = Path(folder) / "root"
        run(
            *("debootstrap", "--variant=minbase"),
            "--include=ca-certificates,python3,python3-venv,python3-pip",
            *("trixie", root),
            description="base image",
        )
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
        recipe = Path(folder) / "Dockerfile"
        recipe.write_text("FROM scratch\nCOPY root /\n")
        run(*_BUILDAH, "bud", "-t", BASE_IMAGE, "-f", recipe, folder, description="base image")
    say(f"made the base image in {time.monotonic() - started:.0f} s")


def _ensure_node_base() -> None:
    """Make a base image with Node and npm of the npm registry, once a machine."""
    if succeeds(*_BUILDAH, "inspect", "--type", "image", NODE_BASE_IMAGE):
        return
    _ensure_base()
    with tempfile.TemporaryDirectory(dir=_STORAGE) as folder:
        shutil.copy(clients.node(), folder)
        shutil.copytree(clients.npm(), Path(folder) / "npm")
        recipe = Path(folder) / "Dockerfile"
        npm = "/usr/local/lib/node_modules/npm"
        recipe.write_text(
            f"FROM {BASE_IMAGE}\nCOPY node /usr/local/bin/\nCOPY npm {npm}\n"
            f"RUN ln -s {npm}/bin/npm-cli.js /usr/local/bin/npm\n"
        )
        isolation = ("--isolation", "chroot", "--pull-never")
        run(
            *_BUILDAH,
            *("bud", *isolation, "-t", NODE_BASE_IMAGE, "-f", recipe, folder),
            description="base image with Node",
        )


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
