"""A small Qwen3 of our own: a real HF checkpoint with random weights and a tokenizer trained on given texts."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from aworld.config import Architecture
from aworld.models.tokenizer import make_tokenizer


def make_checkpoint(architecture: Architecture, texts: Iterable[str], seed: int, folder: Path) -> None:
    """Write an HF folder: config, float32 weights drawn from `seed`, and tokenizer.

    Args:
        architecture: one that `support.check` accepted.
        texts: that the tokenizer is trained on.
        folder: existing or not.
    """
    tokenizer = make_tokenizer(texts, architecture.vocab_size)
    torch.manual_seed(seed)
    values = asdict(architecture)
    theta = values.pop("rope_theta")
    config = Qwen3Config(
        **values,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config).to(torch.float32)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    disable_progress_bar()  # it writes a few megabytes
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
