"""Writes projectors and adapters with true widths, few layers and no sense: their weights are 0.

What llama.cpp reserves for an image depends on the widths and the kind, not on how many layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.gguf_files import header_bytes

Json = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]
WIDTH = 576
"""Of SmolLM2-135M, which they are for."""
_F32, _F16 = 0, 1


def write(path: Path, metadata: Mapping[str, Any], shapes: Shapes) -> Path:
    """Write a file of zeros, which takes no space: matrices of 16 bits, vectors of 32."""
    end, tensors = 0, []
    for name, shape in shapes.items():
        kind, size = (_F32, 4) if len(shape) == 1 or "position" in name else (_F16, 2)
        tensors.append((name, shape, kind, end))
        end += math.ceil(math.prod(shape) * size / 32) * 32
    head = header_bytes(metadata, tensors)
    path.write_bytes(head + b"\0" * (-len(head) % 32))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + end)
    return path


def adapter(path: Path, architecture: str = "llama", rank: int = 64) -> Path:
    """Write a LoRA adapter of the attention of SmolLM2's first layers."""
    metadata = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 16.0,
    }
    shapes: Shapes = {}
    for layer in range(4):
        shapes[f"blk.{layer}.attn_q.weight.lora_a"] = (WIDTH, rank)
        shapes[f"blk.{layer}.attn_q.weight.lora_b"] = (rank, WIDTH)
    return write(path, metadata, shapes)


def _vision(
    kind: str, width: int, hidden: int, heads: int, image: int, patch: int, layers: int, **more: Any
) -> tuple[Json, Shapes]:
    own = {
        "embedding_length": width,
        "feed_forward_length": hidden,
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": 1e-6,
        "image_size": image,
        "patch_size": patch,
        "block_count": layers,
        "projection_dim": WIDTH,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    metadata: Json = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind,
        "clip.use_gelu": True,
        **{f"clip.vision.{name}": value for name, value in own.items()},
    }
    shapes: Shapes = {
        "v.patch_embd.weight": (patch, patch, 3, width),
        "v.patch_embd.bias": (width,),
        "v.position_embd.weight": (width, (image // patch) ** 2),
        "v.post_ln.weight": (width,),
        "v.post_ln.bias": (width,),
    }
    for layer in range(layers):
        block = f"v.blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes |= {f"{block}.{name}.weight": (width, width), f"{block}.{name}.bias": (width,)}
        for entry in ("ln1", "ln2"):
            shapes |= {f"{block}.{entry}.weight": (width,), f"{block}.{entry}.bias": (width,)}
        shapes |= {f"{block}.ffn_up.weight": (width, hidden), f"{block}.ffn_up.bias": (hidden,)}
        shapes |= {f"{block}.ffn_down.weight": (hidden, width), f"{block}.ffn_down.bias": (width,)}
    return metadata, shapes


def _mlp(width: int) -> Shapes:
    return {
        "mm.0.weight": (width, width),
        "mm.0.bias": (width,),
        "mm.2.weight": (width, WIDTH),
        "mm.2.bias": (WIDTH,),
    }


def _gated(shapes: Shapes, hidden: int) -> Shapes:
    width = shapes["v.blk.0.attn_q.weight"][0]
    layers = {name.split(".")[2] for name in shapes if name.startswith("v.blk.")}
    return shapes | {f"v.blk.{layer}.ffn_gate.weight": (width, hidden) for layer in layers}


def _without(shapes: Shapes, *endings: str) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.endswith(endings)}


def idefics3() -> tuple[Json, Shapes]:
    more = {"projector__scale_factor": 4, "preproc_image_size": 2048}
    metadata, shapes = _vision("idefics3", 768, 3072, 12, 512, 16, 2, **more)
    return metadata, {**shapes, "mm.model.fc.weight": (768 * 16, WIDTH)}


def gemma3() -> tuple[Json, Shapes]:
    metadata, shapes = _vision("gemma3", 1152, 4304, 16, 896, 14, 2)
    more: Shapes = {
        "mm.input_projection.weight": (WIDTH, 1152),
        "mm.soft_emb_norm.weight": (1152,),
    }
    return metadata, shapes | more


def llava() -> tuple[Json, Shapes]:
    metadata, shapes = _vision("mlp", 1024, 4096, 16, 336, 14, 3)
    more: Shapes = {
        "v.position_embd.weight": (1024, 577),
        "v.class_embd": (1024,),
        "v.pre_ln.weight": (1024,),
        "v.pre_ln.bias": (1024,),
        "mm.0.weight": (1024, WIDTH),
        "mm.0.bias": (WIDTH,),
        "mm.2.weight": (WIDTH, WIDTH),
        "mm.2.bias": (WIDTH,),
    }
    return metadata, shapes | more


def qwen2vl() -> tuple[Json, Shapes]:
    metadata, shapes = _vision("qwen2vl_merger", 1280, 5120, 16, 560, 14, 2)
    shapes = _without(shapes, "position_embd.weight", "patch_embd.bias")
    second: Shapes = {"v.patch_embd.weight.1": shapes["v.patch_embd.weight"]}
    return metadata, {**shapes, **second, **_mlp(5120)}


def qwen2_5vl() -> tuple[Json, Shapes]:
    metadata, shapes = _vision("qwen2.5vl_merger", 1280, 3420, 16, 560, 14, 4, n_wa_pattern=2)
    metadata["clip.use_silu"] = metadata.pop("clip.use_gelu")
    shapes = _without(shapes, "position_embd.weight", "patch_embd.bias", "post_ln.bias")
    shapes = _gated(_without(shapes, "ln1.bias", "ln2.bias"), 3420)
    second: Shapes = {"v.patch_embd.weight.1": shapes["v.patch_embd.weight"]}
    return metadata, {**shapes, **second, **_mlp(5120)}


def pixtral() -> tuple[Json, Shapes]:
    metadata, shapes = _vision("pixtral", 1024, 4096, 16, 1540, 14, 2, spatial_merge_size=2)
    shapes = _without(shapes, "position_embd.weight", ".bias", "post_ln.weight")
    more: Shapes = {
        "v.pre_ln.weight": (1024,),
        "v.token_embd.img_break": (WIDTH,),
        "mm.1.weight": (1024, WIDTH),
        "mm.2.weight": (WIDTH, WIDTH),
        "mm.input_norm.weight": (1024,),
        "mm.patch_merger.weight": (4096, 1024),
    }
    return metadata, _gated(shapes, 4096) | more


PROJECTORS: dict[str, tuple[Callable[[], tuple[Json, Shapes]], int]] = {
    "idefics3": (idefics3, 32**2),
    "gemma3": (gemma3, 64**2),
    "llava": (llava, 24**2 + 1),
    "qwen2vl": (qwen2vl, 92**2),
    "qwen2.5vl": (qwen2_5vl, 92**2),
    "pixtral": (pixtral, 32**2),
}
"""And how many patches the image has with which llama-server warms each up."""
