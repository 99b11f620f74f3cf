"""Files that llama-server loads besides models: projectors and LoRA adapters.

Weights are exact. The memory for an image is an upper bound, for the largest image that llama.cpp
b11434 passes to the projector (`clip.cpp`). `tests/memory` compares it with llama-server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from llama_halo.errors import DamagedGGUF, UnsupportedModel
from llama_halo.gguf.header import Header

PROJECTOR, ADAPTER = "projector", "adapter"
_NAMES = {
    "": ("a model", "source"),
    PROJECTOR: ("a projector (mmproj)", "projector.source"),
    ADAPTER: ("a LoRA adapter", "adapters"),
}
"""The name of each kind in messages, and its field in the spec."""
MAX_SIDE = 2**14
MAX_WIDTH = 2**20
AUDIO_POSITIONS = 3000
"""Thirty seconds for encoders that process thirty at once, four minutes for the others."""
_WHOLE_AUDIO = frozenset({"lfm2a", "parakeet"})
"""Encoders that process a recording as a whole, and keep the attention scores."""
MAX_POSITIONS = 2**20
MAX_HEADS = 4096
MAX_NUMBER = 2**53
MAX_TEXT_CHARACTERS = 100
BATCH_TOKENS = 1024
"""Small images are encoded together, up to this many tokens."""
# Tokens of the largest image, for projectors that accept any size; others scale images to theirs.
_MAX_TOKENS = {
    **dict.fromkeys(("qwen2vl_merger", "qwen2.5vl_merger", "qwen3vl_merger", "ling3vl"), 4096),
    **dict.fromkeys(("qwen2.5o", "glm4v", "kimik25", "muse-glimmer", "glm5v", "exaone4_5"), 4096),
    **dict.fromkeys(("pixtral", "kimivl", "lightonocr", "dots_ocr", "paddleocr"), 1024),
    **{"lfm2": 256, "gemma4v": 1120, "gemma4uv": 1120, "minimax_m3": 576},
    **{"hunyuanvl": 16384, "youtuvl": 4096},
}
_MERGES = {"gemma3": 4, "gemma4v": 3, "pixtral": 1, "mlp": 1}
_USUAL_MERGE = 2
_STORED_NAMES = {"has_vision": "sees", "has_audio": "hears"}
"""The names of these fields in statuses that exist already."""


@dataclass(frozen=True)
class Companion:
    """A projector, an adapter, or a whisper.cpp model, as described by its header."""

    kind: str
    architecture: str
    """For an adapter, the architecture of its models; for a projector, its type."""
    weights: int
    positions: int = 0
    """Patches of the largest image, or steps of audio."""
    values: int = 0
    """32-bit floats for each position."""
    token_positions: int = 0
    """Patches of a token if `--image-max-tokens` limits an image, else 0."""
    pair_bytes: int = 0
    """Bytes for each pair of positions: attention masks or scores."""
    heads: int = 0
    has_vision: bool = False
    has_audio: bool = False

    def bound_bytes(self, *, flash_attention: bool, image_tokens: int = 0) -> int:
        """Return the bytes of the weights plus a bound for one image or piece of audio.

        `image_tokens` limits an image; 0 is llama.cpp's own limit.
        """
        limited = image_tokens * self.token_positions
        positions = min(limited, MAX_POSITIONS) or self.positions
        of_pair = self.pair_bytes + (0 if flash_attention else 8 * self.heads)
        return self.weights + positions * (4 * self.values + of_pair * positions)


def kind_of(header: Header) -> str:
    """Return `PROJECTOR` or `ADAPTER`, empty for a model."""
    if header.text("general.architecture") == "clip":
        return PROJECTOR
    return ADAPTER if header.text("general.type") == "adapter" else ""


def check_kind(header: Header, expected: str) -> None:
    """Raise `UnsupportedModel` unless the file is of the expected kind; empty is a model."""
    kind = kind_of(header)
    if kind != expected:
        is_one, field = _NAMES[kind]
        raise UnsupportedModel(
            f"it is {is_one}, not {_NAMES[expected][0]}: name it in spec.{field}, where it belongs"
        )


def companion(header: Header, kind: str) -> Companion:
    """Return the companion that a header describes.

    Raises `UnsupportedModel` if it is of another kind, and `DamagedGGUF` for impossible numbers.
    """
    check_kind(header, kind)
    return _adapter(header) if kind == ADAPTER else _projector(header)


def to_json(described: Companion) -> dict[str, Any]:
    """Return a companion as JSON."""
    values = asdict(described).items()
    return {_STORED_NAMES.get(name, name): value for name, value in values if value}


def from_json(data: Mapping[str, Any]) -> Companion:
    """Return the companion that `to_json` wrote; raises `DamagedGGUF` for anything else."""
    try:
        numbers = ("weights", "positions", "values", "token_positions", "pair_bytes", "heads")
        return Companion(
            kind=str(data["kind"])[:MAX_TEXT_CHARACTERS],
            architecture=str(data["architecture"])[:MAX_TEXT_CHARACTERS],
            has_vision=bool(data.get(_STORED_NAMES["has_vision"])),
            has_audio=bool(data.get(_STORED_NAMES["has_audio"])),
            **{name: _bounded(data.get(name, 0)) for name in numbers},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedGGUF(f"this is no projector or adapter: {error!r}") from error


def _bounded(value: Any) -> int:
    """Return a stored number; raises `TypeError` for anything else."""
    if type(value) is not int or not 0 <= value < MAX_NUMBER:
        raise TypeError("a value is no number within bounds")
    return value


def _adapter(header: Header) -> Companion:
    kind = header.text("adapter.type")
    if kind != "lora":
        raise UnsupportedModel(f"it is an adapter of type {kind[:30]!r}, and llama.cpp takes lora")
    return Companion(ADAPTER, header.text("general.architecture")[:64], header.tensor_bytes)


def _projector(header: Header) -> Companion:
    has_vision = header.metadata.get("clip.has_vision_encoder") is True
    has_audio = header.metadata.get("clip.has_audio_encoder") is True
    parts = ([_vision(header)] if has_vision else []) + ([_audio(header)] if has_audio else [])
    if not parts:
        raise UnsupportedModel("this projector has an encoder neither for images nor for audio")
    largest = max(parts, key=lambda tensor: tensor.bound_bytes(flash_attention=True))
    return Companion(
        kind=PROJECTOR,
        architecture=largest.architecture,
        weights=header.tensor_bytes,
        positions=largest.positions,
        values=largest.values * len(parts),
        token_positions=largest.token_positions,
        pair_bytes=largest.pair_bytes,
        heads=largest.heads,
        has_vision=has_vision,
        has_audio=has_audio,
    )


def _vision(header: Header) -> Companion:
    name = _type(header, "vision")
    side = _number(header, "vision.image_size", 1, MAX_SIDE)
    patch = _number(header, "vision.patch_size", 1, MAX_SIDE)
    merge = _merge(header, name) ** 2
    pixels = _number(header, "vision.image_max_pixels", 0, 2**32, default=0)
    positions = max(
        (side // patch) ** 2 + 1,
        pixels // patch**2,
        _MAX_TOKENS.get(name, 0) * merge,
        # Projectors that scale images to their own size encode several at once.
        0 if name in _MAX_TOKENS else BATCH_TOKENS * merge,
    )
    windowed = any(
        f"clip.vision.{key}" in header.metadata or f"clip.vision.{key}" in header.array_lengths
        for key in ("n_wa_pattern", "wa_layer_indexes", "wa_pattern_mode")
    )
    encoder = _encoder(header, "vision", name, positions)
    return replace(
        encoder,
        token_positions=merge if name in _MAX_TOKENS or pixels else 0,
        pair_bytes=6 if windowed else 0,
    )


def _audio(header: Header) -> Companion:
    encoder = _encoder(header, "audio", _type(header, "audio"), AUDIO_POSITIONS)
    whole = encoder.architecture in _WHOLE_AUDIO
    return replace(encoder, pair_bytes=12 * encoder.heads if whole else 0)


def _encoder(header: Header, part: str, name: str, positions: int) -> Companion:
    if positions > MAX_POSITIONS:
        raise DamagedGGUF(
            f"clip.{part} takes {positions} patches of an image, more than"
            f" the maximum ({MAX_POSITIONS})"
        )
    width = _number(header, f"{part}.embedding_length", 1, MAX_WIDTH)
    hidden = _number(header, f"{part}.feed_forward_length", 0, MAX_WIDTH)
    gated = any(".ffn_gate." in tensor for tensor in header.tensors)
    return Companion(
        kind=PROJECTOR,
        architecture=name,
        weights=0,
        positions=positions,
        values=(3 if gated else 1) * hidden + 6 * width,
        heads=_number(header, f"{part}.attention.head_count", 1, MAX_HEADS),
    )


def _type(header: Header, part: str) -> str:
    kind = header.text("clip.projector_type") or header.text(f"clip.{part}.projector_type")
    return kind[:64] or "mlp"


def _merge(header: Header, name: str) -> int:
    """Return how many patches a token has along each side."""
    usual = _MERGES.get(name, _USUAL_MERGE)
    by_size = _number(header, "vision.spatial_merge_size", 1, 64, default=usual)
    return _number(header, "vision.projector.scale_factor", 1, 64, default=by_size)


def _number(header: Header, key: str, least: int, most: int, *, default: int | None = None) -> int:
    value = header.metadata.get(f"clip.{key}", default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        shown = "missing" if value is None else repr(value)[:60]
        raise DamagedGGUF(f"clip.{key} is {shown}, not a number from {least} to {most}")
    return value
