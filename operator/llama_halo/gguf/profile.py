"""The data of a model file that the operator keeps, small enough for a termination message.

Kubernetes truncates a termination message at 4096 bytes, so the layers are run-length encoded:
models repeat a few kinds of layers in a few patterns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from itertools import groupby
from typing import Any

from llama_halo.errors import DamagedGGUF, UnsupportedModel
from llama_halo.gguf import architectures as arch
from llama_halo.gguf.companions import check_kind
from llama_halo.gguf.header import Header
from llama_halo.gguf.layers import MAX_LAYERS, Dimensions, Layer, dimensions
from llama_halo.gguf.memory import Serving, kv_cache_bytes, state_bytes, weight_bytes

Json = dict[str, Any]
_QUANTIZATION = re.compile(r"(?:^|[-._])((?:I?Q\d\w*|MXFP4\w*|BF16|F16|F32))(?=$|[-.])", re.I)
_BLOCK = re.compile(r"blk\.(\d{1,3})\.")
_LAYERS = ("layers", "drafting")
_NONE: Json = {"of": [], "runs": ""}
"""Stands for layers that earlier releases did not store."""
_KINDS = {field.name: str(field.type) for field in fields(Dimensions)}
_NUMBERS = tuple(name for name in _KINDS if name not in _LAYERS)
_LAYER_KINDS = tuple(str(field.type) for field in fields(Layer))
RANKS, NO_POOLING = "rank", "absent"
_POOLING = ("none", "mean", "cls", "last", RANKS)
"""By llama.cpp's number in `<architecture>.pooling_type`."""
MAX_NUMBER = 2**53
MAX_TEXT_CHARACTERS = 100


@dataclass(frozen=True)
class Profile:
    """A model as described by its header: for display, and for the memory estimate."""

    parameters: int
    quantization: str
    tools: bool
    """Whether its chat template mentions tools."""
    drafts: str
    """Its kind of draft, if not an ordinary model: eagle3, dflash, dspark, or mtp for a file that
    has only the layers for multi-token prediction."""
    weights: int
    """Bytes, as a server with a GPU loads them."""
    layer_weights: tuple[int, ...]
    """Bytes of each layer."""
    model: Dimensions
    pooling: str = ""
    """How it makes one vector of a text: a name of `_POOLING`, or `absent` in the header; empty if
    an earlier release read it."""

    def on_host(self, serving: Serving, gpu_layers: int) -> int:
        """Return the bytes that stay off the GPU when it holds `gpu_layers` layers.

        llama.cpp counts the output as one more layer, and puts the last layers on the GPU.
        """
        kept = max(len(self.layer_weights) + 1 - gpu_layers, 0)
        rest = replace(self.model, layers=self.model.layers[:kept])
        output = 0 if gpu_layers else max(self.weights - sum(self.layer_weights), 0)
        cache = kv_cache_bytes(rest, serving) + state_bytes(rest, serving)
        return sum(self.layer_weights[:kept]) + output + cache


def profile(header: Header, file: str) -> Profile:
    """Return the profile of a model; raises `GGUFError` for any other file."""
    check_kind(header, "")
    _check_language_model(header)
    model = dimensions(header)
    weights = [0] * len(model.layers)
    for name, size in header.tensors.items():
        match = _BLOCK.match(name)
        if match and int(match[1]) < len(weights):
            weights[int(match[1])] += size
    return Profile(
        parameters=header.parameters,
        quantization=_quantization(header, file),
        tools=mentions_tools(header.text("tokenizer.chat_template")),
        drafts=_drafts(header),
        weights=weight_bytes(header, model),
        layer_weights=tuple(weights),
        model=model,
        pooling=_pooling(header),
    )


def _pooling(header: Header) -> str:
    if any(name.startswith("cls.") for name in header.tensors):
        return RANKS
    kind = header.metadata.get(f"{header.text('general.architecture')}.pooling_type")
    return _POOLING[kind] if type(kind) is int and 0 <= kind < len(_POOLING) else NO_POOLING


def _check_language_model(header: Header) -> None:
    """Raise `UnsupportedModel` for a file that has no language model: an importance matrix, a
    control vector, a part of an image generator, or a vocabulary alone."""
    name = header.text("general.architecture")
    if header.text("general.type") == "imatrix" or "imatrix.datasets" in header.array_lengths:
        raise UnsupportedModel(
            "it is no language model but an importance matrix, with which models are quantized:"
            " name the model's own file"
        )
    is_described = f"{name}.embedding_length" in header.metadata
    if name and name not in arch.KNOWN and not is_described:
        raise UnsupportedModel(
            f"it is no language model: llama.cpp has no architecture {name[:64]!r}, and the file"
            f" has no {name[:64]}.embedding_length; an image generator, its text encoder or a"
            " control vector cannot be served"
        )
    if not header.tensors:
        raise UnsupportedModel(
            "it has no tensors but a vocabulary alone: name the file that has the weights"
        )


def mentions_tools(template: str) -> bool:
    """Tell whether a chat template mentions tools."""
    return "tools" in template


def to_json(model_profile: Profile) -> Json:
    """Return a profile as compact JSON."""
    numbers = {name: getattr(model_profile.model, name) for name in _NUMBERS}
    return {
        "parameters": model_profile.parameters,
        "quantization": model_profile.quantization,
        "tools": model_profile.tools,
        **({"drafts": model_profile.drafts} if model_profile.drafts else {}),
        **({"pooling": model_profile.pooling} if model_profile.pooling else {}),
        "weights": model_profile.weights,
        "layerWeights": _runs(model_profile.layer_weights),
        **{
            name: _runs([_layer_json(layer) for layer in getattr(model_profile.model, name)])
            for name in _LAYERS
        },
        **{
            name: list(value) if isinstance(value, tuple) else value
            for name, value in numbers.items()
        },
    }


def from_json(data: Mapping[str, Any]) -> Profile:
    """Return the profile that `to_json` wrote; raises `DamagedGGUF` for anything else."""
    try:
        numbers: Json = {name: _stored(_KINDS[name], data[name]) for name in _NUMBERS}
        for name in _LAYERS:
            numbers[name] = tuple(_layer(entry) for entry in _unrolled(data.get(name) or _NONE))
        return Profile(
            parameters=_stored("int", data["parameters"]),
            quantization=_stored("str", data["quantization"]),
            tools=bool(data["tools"]),
            drafts=_stored("str", data.get("drafts", "")),
            weights=_stored("int", data["weights"]),
            layer_weights=tuple(_stored("int", size) for size in _unrolled(data["layerWeights"])),
            model=Dimensions(**numbers),
            pooling=_stored("str", data.get("pooling", "")),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DamagedGGUF(f"this is no profile of a model: {error!r}") from error


def _stored(kind: str, value: Any) -> Any:
    """Return a stored value of a field's type; raises `TypeError` for any other.

    Anybody who may write a status or run a Job's pod writes these values.
    """
    if kind == "tuple[int, int]" and isinstance(value, list) and len(value) == 2:
        return tuple(_stored("int", number) for number in value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and type(value) is int and 0 <= value < MAX_NUMBER:
        return value
    if kind == "str" and isinstance(value, str) and len(value) <= MAX_TEXT_CHARACTERS:
        return value
    raise TypeError(f"a value is no {kind} within bounds")


def _layer(entry: Any) -> Layer:
    if not isinstance(entry, list) or len(entry) > len(_LAYER_KINDS):
        raise TypeError("a layer is no list of numbers")
    numbers = [_stored("int", number) for number in entry]
    kinds = zip(_LAYER_KINDS, numbers, strict=False)
    return Layer(*(bool(number) if kind == "bool" else number for kind, number in kinds))


def _drafts(header: Header) -> str:
    """Return the kind of draft that a file is; `bundle.draft_type` turns it into a flag."""
    name = header.text("general.architecture")
    if name == "dflash":
        return "dspark" if "markov_w1.weight" in header.tensors else "dflash"
    if name == "eagle3":
        return name
    drafting = header.whole(f"{name}.nextn_predict_layers")
    alone = drafting == header.whole(f"{name}.block_count") or (
        header.tensors and "blk.0.attn_norm.weight" not in header.tensors
    )
    return "mtp" if drafting and alone else ""


def _layer_json(layer: Layer) -> list[int]:
    """Return a layer's numbers, without the zeros at the end."""
    numbers = [int(value) for value in astuple(layer)]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def _runs(values: Sequence[Any]) -> Json:
    """Return the distinct values, and the runs of their indexes, such as `3x0 1x1`."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    runs = [(len(list(same)), which) for which, same in groupby(map(distinct.index, values))]
    return {"of": distinct, "runs": " ".join(f"{count}x{which}" for count, which in runs)}


def _unrolled(runs: Mapping[str, Any]) -> list[Any]:
    values: list[Any] = []
    for run in str(runs["runs"]).split():
        count, _, which = run.partition("x")
        if not 0 < int(count) <= MAX_LAYERS - len(values):
            raise ValueError(f"{count} more layers")
        values += [runs["of"][int(which)]] * int(count)
    return values


def _quantization(header: Header, file: str) -> str:
    """Return the quantization in the file's name, else the tensor type with the most bytes."""
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", file.rpartition("/")[2])
    named = _QUANTIZATION.findall(stem)
    if named:
        return str(named[-1]).upper()
    return max(header.tensor_types, key=header.tensor_types.__getitem__, default="")
