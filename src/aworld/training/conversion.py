"""Conversion of weights between Hugging Face and Megatron, by mbridge; bit-exact in both directions."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch
from mbridge.models.qwen3 import Qwen3Bridge
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig
from safetensors.torch import save_file
from transformers import AutoConfig, Qwen3Config

from aworld.training.collectives import is_rank_zero

SHARD_BYTES = 5 << 30


class Bridge(Qwen3Bridge):
    """mbridge's Qwen3, with the names that layer norms have where Transformer Engine does not fuse them."""

    _OTHER_MAPPING: ClassVar = {"input_layernorm.weight": ["model.layers.{layer_number}.input_layernorm.weight"]}
    _MLP_MAPPING: ClassVar = {
        **Qwen3Bridge._MLP_MAPPING,
        "pre_mlp_layernorm.weight": ["model.layers.{layer_number}.post_attention_layernorm.weight"],
    }

    def __init__(self, hf: Qwen3Config, config: TransformerConfig):
        self._DIRECT_MAPPING = dict(Qwen3Bridge._DIRECT_MAPPING)  # mbridge writes into it where embeddings are tied
        self._built = config
        super().__init__(hf, dtype=config.params_dtype)
        self.vocab_size = self.padded_vocab_size = hf.vocab_size

    def _build_config(self) -> TransformerConfig:
        return self._built


def load_hf(model: GPTModel, path: Path) -> None:
    """Load this rank's part of the model from an HF folder. All ranks call it."""
    with torch.no_grad():
        Bridge(AutoConfig.from_pretrained(path), model.config).load_weights([model], str(path))


def export_hf(model: GPTModel, base: Path, out: Path | None) -> None:
    """Write an HF folder that vLLM can serve. All ranks call it, rank 0 writes.

    All other files than the weights (config, tokenizer, chat template, generation config) are copied from `base`.

    Args:
        out: on rank 0 an empty folder, elsewhere None.
    """
    weights = Bridge(AutoConfig.from_pretrained(base), model.config).export_weights([model])
    if not is_rank_zero():
        for _ in weights:  # each is gathered by all ranks
            pass
        return
    assert out is not None
    for file in base.iterdir():
        if file.is_file() and ".safetensors" not in file.suffixes and file.suffix != ".bin" and file.name != "COMPLETE":
            shutil.copyfile(file, out / file.name)
    _write_weights(weights, out)


def _write_weights(weights: Iterable[tuple[str, torch.Tensor]], out: Path) -> None:
    """Write `model.safetensors`, or numbered files of about SHARD_BYTES and their index."""
    parts: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    seen: set[str] = set()

    def flush() -> None:
        parts.append(list(held))
        save_file(held, out / f"part-{len(parts)}", metadata={"format": "pt"})
        held.clear()

    for name, tensor in weights:
        if name in seen:  # tied embeddings: the last stage of a pipeline has the first one's as well
            continue
        seen.add(name)
        held[name] = tensor.detach().cpu().contiguous().clone()
        if sum(t.nbytes for t in held.values()) >= SHARD_BYTES:
            flush()
    if held:
        flush()
    if len(parts) == 1:
        (out / "part-1").rename(out / "model.safetensors")
        return
    index: dict[str, str] = {}
    for number, names in enumerate(parts, 1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        (out / f"part-{number}").rename(out / file)
        index |= dict.fromkeys(names, file)
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
