"""Files of weights: who writes which, and the bytes of one (https://huggingface.co/docs/safetensors)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ONLY, INDEX = "model.safetensors", "model.safetensors.index.json"
ITEM_BYTES = {"BF16": 2, "F32": 4}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the HF folder.

    Attributes:
        dtype: as safetensors names it, a key of ITEM_BYTES.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


def header(tensors: Sequence[Tensor]) -> bytes:
    """What a safetensors file begins with; the tensors follow in this order, without gaps."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.nbytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (begin, end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def share(sizes: Sequence[int], writers: int) -> list[int]:
    """The writer or reader of each piece: from the largest on, each goes to the one with the fewest bytes so far."""
    held = [0] * writers
    found = [0] * len(sizes)
    for piece in sorted(range(len(sizes)), key=lambda piece: -sizes[piece]):
        found[piece] = min(range(writers), key=held.__getitem__)
        held[found[piece]] += sizes[piece]
    return found


def write_index(path: Path, tensors: Mapping[str, Sequence[str]]) -> None:
    """Write which file holds which tensors; `tensors` has the names of the tensors in each file."""
    where = {tensor: file for file, names in tensors.items() for tensor in names}
    path.write_text(json.dumps({"metadata": {}, "weight_map": where}))
