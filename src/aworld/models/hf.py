"""A model's HF folder: its configuration and the shapes of its tensors. No weights are loaded."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aworld.errors import InputError

CONFIG, INDEX, WEIGHTS, TOKENIZER = "config.json", "model.safetensors.index.json", "model.safetensors", "tokenizer.json"
TYPES = ("F32", "F16", "BF16")  # FP8 and integers would need their scales


@dataclass(frozen=True)
class Folder:
    """A checkpoint's description.

    Attributes:
        values: the contents of its config.json.
        shapes: the shape of each tensor, by name.
    """

    path: Path
    values: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def read(path: Path) -> Folder:
    """The description of the checkpoint in a folder.

    Raises:
        InputError: a file is missing, cut off or invalid, or a tensor is of a type that the engines do not read.
    """
    if not path.is_dir():
        raise InputError(f"model.path={path} is not there (looked in {Path.cwd()}); give the folder's full path")
    if not (path / CONFIG).is_file():
        raise InputError(f"model.path={path} is no HF checkpoint: it holds no {CONFIG}")
    if not (path / TOKENIZER).is_file():
        raise InputError(f"model.path={path} holds no {TOKENIZER}; fetch the whole folder, or save its fast tokenizer")
    values = _json(path / CONFIG)
    method = values.get("quantization_config")
    if isinstance(method, dict):
        raise InputError(
            f"{path / CONFIG}: weights are quantized ({method.get('quant_method', 'quantization_config')}); "
            "choose the model in bfloat16"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _weights(path):
        shapes |= _shapes(file)
    if (path / INDEX).is_file():
        missing = sorted(_json(path / INDEX)["weight_map"].keys() - shapes.keys())
        if missing:
            raise InputError(f"{path}: {INDEX} names {missing[0]}, which no file holds; fetch the folder again")
    return Folder(path, values, shapes)


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as reason:
        raise InputError(f"{path} is not valid JSON ({reason}); fetch it again") from None
    if not isinstance(values, dict) or not isinstance(values.get("weight_map", {}), dict):
        raise InputError(f"{path} does not hold what its name says; fetch it again")
    if path.name == INDEX and "weight_map" not in values:
        raise InputError(f"{path} holds no weight_map; fetch it again")
    return values


def _weights(path: Path) -> list[Path]:
    if (path / INDEX).is_file():
        names = sorted(set(_json(path / INDEX)["weight_map"].values()))
    elif (path / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif any(path.glob("*.bin")):
        raise InputError(f"model.path={path} holds .bin weights; save it as safetensors")
    else:
        raise InputError(f"model.path={path} holds no weights: neither {WEIGHTS} nor {INDEX}; fetch the whole folder")
    if missing := [name for name in names if not (path / name).is_file()]:
        raise InputError(f"{path / missing[0]} is not there ({len(missing)} of {len(names)} files); fetch them")
    return [path / name for name in names]


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file, by name, from its header."""
    try:
        with open(file, "rb") as f:
            (size,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(size)) if size < 1 << 30 else {}
        header.pop("__metadata__", None)
        end = 8 + size + max(tensor["data_offsets"][1] for tensor in header.values())
        found = {name: (tensor["dtype"], tuple(tensor["shape"])) for name, tensor in header.items()}
    except (struct.error, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{file} is no safetensors file; fetch it again") from None
    if file.stat().st_size < end:
        raise InputError(f"{file} is cut off at {file.stat().st_size} of {end} bytes; fetch it again")
    for name, (dtype, _) in found.items():
        if dtype not in TYPES:
            raise InputError(f"{file}: {name} is of type {dtype}; choose the model in bfloat16")
    return {name: shape for name, (_, shape) in found.items()}
