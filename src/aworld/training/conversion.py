"""Conversion of weights between Hugging Face and Megatron, by mbridge; bit-exact in both directions."""

from pathlib import Path
from typing import ClassVar

import torch
from mbridge.models.qwen3 import Qwen3Bridge
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig
from transformers import AutoConfig, Qwen3Config


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
