"""HF folders of a dense Qwen3 with headers, a real tokenizer, and no weights."""

import json
import struct
from dataclasses import asdict
from functools import cache
from math import prod
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from aworld.config import Architecture
from aworld.models.special_tokens import LEAST_VOCABULARY
from aworld.models.support import tensors
from aworld.models.tokenizer import make_tokenizer


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


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(["a question", "an answer"], LEAST_VOCABULARY)


def hf_folder(folder: Path, architecture: Architecture, **values: object) -> Path:
    """A folder in two files with an index; `values` go into its config.json."""
    folder.mkdir(parents=True)
    config = {"model_type": "qwen3", **asdict(architecture), **values}
    (folder / "config.json").write_text(json.dumps(config))
    _tokenizer().save_pretrained(folder)
    shapes = tensors(architecture)
    halves = (dict(list(shapes.items())[::2]), dict(list(shapes.items())[1::2]))
    index = {}
    for number, half in enumerate(halves, 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        safetensors(folder / file, half)
        index |= dict.fromkeys(half, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder
