"""HF folders of a dense Qwen3 that hold headers and no weights: enough for whatever does not load them."""

import json
import struct
from dataclasses import asdict
from math import prod
from pathlib import Path

from aworld.config import Architecture
from aworld.models.hf import tensors


def safetensors(file: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """A file of zeros, which takes no space on the disk."""
    at, header = 0, {}
    for name, shape in shapes.items():
        end = at + 2 * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with open(file, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)


def hf_folder(folder: Path, architecture: Architecture, **values: object) -> Path:
    """A folder in two files with an index; `values` go into its config.json."""
    folder.mkdir(parents=True)
    config = {"model_type": "qwen3", **asdict(architecture), **values}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    shapes = tensors(architecture)
    halves = (dict(list(shapes.items())[::2]), dict(list(shapes.items())[1::2]))
    index = {}
    for number, half in enumerate(halves, 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        safetensors(folder / file, half)
        index |= dict.fromkeys(half, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder
