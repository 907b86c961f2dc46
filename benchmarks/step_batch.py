"""A batch of made-up episodes and the model that trains on them, as the trainer and other loops take them."""

from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from transformers import Qwen3Config

from aworld.config import Training
from aworld.training import algorithms, batching
from aworld.training.step import Trainer
from aworld.trajectories.arrays import COLUMNS, Trajectories, offsets_of

TASKS, ATTEMPTS = 2, 4


@dataclass(frozen=True)
class Episode:
    """One row of a batch.

    Attributes:
        ids: int64 [s].
        prompt: the number of tokens that the policy did not sample.
        logprobs: float32 [s − prompt], nats, under the policy that sampled them.
    """

    ids: torch.Tensor
    prompt: int
    logprobs: torch.Tensor
    advantage: float


def hf_config(layers: int, hidden: int, vocab: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=gcd(hidden // 64, 2),
        head_dim=64,
        tie_word_embeddings=False,
        use_cache=False,
    )


def sampled_by(trainer: Trainer, vocab: int, shortest: int, longest: int) -> Trajectories:
    """Random episodes of ragged lengths, whose first third is the prompt, as if nearly this policy had sampled them."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(shortest, longest + 1, TASKS * ATTEMPTS)
    rows = np.zeros(len(lengths), COLUMNS)
    rows["task_id"] = np.repeat([f"task-{number}".encode() for number in range(TASKS)], ATTEMPTS)
    rows["attempt"] = np.tile(np.arange(ATTEMPTS), TASKS)
    rows["reward"], rows["status"] = rows["attempt"] % 2, b"answered"
    mask = np.concatenate([np.arange(length) >= length // 3 for length in lengths]).astype(np.uint8)
    tokens = rng.integers(3, vocab, lengths.sum()).astype(np.int32)
    offsets = offsets_of(lengths)
    unknown = Trajectories(1, tokens, mask, np.zeros(len(tokens), np.float32), offsets, rows)
    noise = rng.normal(0, 0.05, len(tokens)).astype(np.float32) * mask
    return Trajectories(1, tokens, mask, trainer.logprobs(unknown) + noise, offsets, rows)


def episodes(trajectories: Trajectories, training: Training) -> list[Episode]:
    """The rows of a batch, with the trainer's advantages."""
    t, advantages = trajectories, batching.advantages(trajectories, algorithms.make(training))
    found = []
    for begin, end, advantage in zip(t.offsets, t.offsets[1:], advantages, strict=False):
        prompt = int((t.mask[begin:end] == 0).sum())
        ids, logprobs = torch.from_numpy(t.tokens[begin:end].astype(np.int64)), t.logprobs[begin + prompt : end]
        found.append(Episode(ids, prompt, torch.from_numpy(logprobs), float(advantage)))
    return found
