#!/usr/bin/env python
"""Tokens a second of the trainer's optimizer step, against a plain transformers loop and TRL, on one batch.

    python benchmarks/step.py                           # about five minutes on one core
    python benchmarks/step.py --layers 2 --rounds 1     # that it runs

TRL is no dependency. `pip install trl` adds it to the comparison; it brings other versions of some packages, so use an
environment beside this one. Without TRL a line says so.

All train one Qwen3 in float32 with GRPO's clipped loss, clip the gradient, and step AdamW. Every round gives each its
turn, so that another program on the machine slows all of them. They are compared by CPU seconds. Tokens are those of
the episodes, without padding.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
os.environ["OMP_NUM_THREADS"] = "1"  # as `aworld train` gives a rank

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from aworld.config import Parallel, Training
from aworld.training import algorithms, batching, cpu, model
from aworld.training.packing import Split
from aworld.training.step import Trainer
from aworld.trajectories.arrays import COLUMNS, Trajectories, offsets_of

TASKS, ATTEMPTS = 2, 4
SHORTEST, LONGEST = 48, 384  # tokens of an episode
TOGETHER = 4  # episodes in a padded batch
TRAINING = Training(
    clip_low=0.2, clip_high=0.2, lr=1e-6, batch_size=TASKS * ATTEMPTS, micro_batch_tokens=TOGETHER * LONGEST
)
ADAM = {"lr": TRAINING.lr, "betas": (TRAINING.adam_beta1, TRAINING.adam_beta2), "eps": TRAINING.adam_eps}
AGREE = 1e-4  # of losses and gradient norms

Step = Callable[[], tuple[float, float]]  # makes a step; returns loss and gradient norm


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=384, help="a multiple of 64")
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--rounds", type=int, default=3, help="that are timed, after one that is not")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    arguments = parser.parse_args()
    join_alone()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        hf = hf_config(arguments.layers, arguments.hidden, arguments.vocab)
        Qwen3ForCausalLM(hf).save_pretrained(path)
        trainer = Trainer(TRAINING, path, "float32", TRAINING.lr)
        trajectories = sampled_by(trainer, arguments.vocab)
        batch = episodes(trajectories)
        contenders = {
            "trainer": ours(trainer, trajectories),
            "transformers": plain(path, batch, TOGETHER),
            "transformers, no padding": plain(path, batch, 1),
        }
        try:
            contenders["TRL"] = trl(path, batch)
        except ImportError as error:
            print(f"TRL is left out ({error}); pip install trl adds it", file=sys.stderr)
        seconds = timed(contenders, arguments.rounds)
    found = {
        "parameters": sum(p.numel() for p in trainer.module.parameters()),
        "tokens": len(trajectories.tokens),
        "cpu_seconds": seconds,
        "ratio": {name: value / seconds["trainer"] for name, value in seconds.items() if name != "trainer"},
    }
    print(json.dumps(found) if arguments.json else report(found))


def join_alone() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    model.initialize(Parallel(), 0, 300)


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


def sampled_by(trainer: Trainer, vocab: int) -> Trajectories:
    """Random episodes of ragged lengths, whose first third is the prompt, as if nearly this policy had sampled them."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(SHORTEST, LONGEST + 1, TASKS * ATTEMPTS)
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


def episodes(trajectories: Trajectories) -> list[Episode]:
    """The rows of a batch, with the trainer's advantages."""
    t, advantages = trajectories, batching.advantages(trajectories, algorithms.make(TRAINING))
    found = []
    for begin, end, advantage in zip(t.offsets, t.offsets[1:], advantages, strict=False):
        prompt = int((t.mask[begin:end] == 0).sum())
        ids, logprobs = torch.from_numpy(t.tokens[begin:end].astype(np.int64)), t.logprobs[begin + prompt : end]
        found.append(Episode(ids, prompt, torch.from_numpy(logprobs), float(advantage)))
    return found


def ours(trainer: Trainer, trajectories: Trajectories) -> Step:
    """The trainer's own step; packing is part of it."""
    algorithm = algorithms.make(TRAINING)

    def step() -> tuple[float, float]:
        (planned,) = batching.steps(
            trajectories,
            algorithm,
            batch_size=TRAINING.batch_size,
            micro_batch_tokens=TRAINING.micro_batch_tokens,
            max_tokens=LONGEST,
            data_parallel=1,
            seed=(0,),
        )
        metrics = trainer.step(batching.micro_batches(trajectories, planned, 0, Split.here(), cpu.device()), algorithm)
        return metrics["loss"], metrics["grad_norm"]

    return step


def plain(path: Path, batch: list[Episode], together: int) -> Step:
    """The loop that a user writes: padded batches, all logits, torch.optim.AdamW."""
    policy = Qwen3ForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = torch.optim.AdamW(policy.parameters(), weight_decay=TRAINING.weight_decay, **ADAM)

    def step() -> tuple[float, float]:
        total = 0.0
        for at in range(0, len(batch), together):
            rows = batch[at : at + together]
            ids = torch.nn.utils.rnn.pad_sequence([row.ids for row in rows], batch_first=True)
            attended = torch.zeros_like(ids)
            mask, old = torch.zeros(ids.shape), torch.zeros(ids.shape)
            for number, row in enumerate(rows):
                attended[number, : len(row.ids)] = 1
                mask[number, row.prompt : len(row.ids)] = 1
                old[number, row.prompt : len(row.ids)] = row.logprobs
            logits = policy(ids, attention_mask=attended).logits[:, :-1]
            new = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            mask, ratio = mask[:, 1:], (new - old[:, 1:]).exp()
            advantages = torch.tensor([[row.advantage] for row in rows])
            clipped = ratio.clamp(1 - TRAINING.clip_low, 1 + TRAINING.clip_high)  # type: ignore[operator]
            per_token = -torch.minimum(ratio * advantages, clipped * advantages)
            loss = ((per_token * mask).sum(1) / mask.sum(1)).sum() / len(batch)
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), TRAINING.clip_grad).item()
        optimizer.step()
        optimizer.zero_grad()
        return total, norm

    return step


def trl(path: Path, batch: list[Episode]) -> Step:
    """TRL's GRPOTrainer, from the point where episodes and advantages are known."""
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    count = len(batch) // TOGETHER
    settings = GRPOConfig(
        output_dir=str(path / "trl"),
        use_cpu=True,
        bf16=False,
        beta=0.0,
        epsilon=TRAINING.clip_low,
        loss_type="grpo",
        per_device_train_batch_size=TOGETHER,
        gradient_accumulation_steps=count,
        num_generations=ATTEMPTS,
        gradient_checkpointing=False,
        learning_rate=TRAINING.lr,
        adam_beta1=TRAINING.adam_beta1,
        adam_beta2=TRAINING.adam_beta2,
        adam_epsilon=TRAINING.adam_eps,
        report_to=[],
    )
    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    trainer = GRPOTrainer(
        model=Qwen3ForCausalLM.from_pretrained(path, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": ["none"] * len(batch)}),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"),
    )
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = count
    policy = trainer.model
    policy.train()
    rows = [batch[at : at + TOGETHER] for at in range(0, len(batch), TOGETHER)]

    def step() -> tuple[float, float]:
        total = 0.0
        for part in rows:
            loss = trainer.compute_loss(policy, _as_trl_pads(part))
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), TRAINING.clip_grad).item()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return total, norm

    return step


def _as_trl_pads(rows: list[Episode]) -> dict[str, torch.Tensor]:
    """Prompts padded on the left, completions on the right."""

    def padded(parts: list[torch.Tensor], side: str) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_side=side)

    prompts, completions = [row.ids[: row.prompt] for row in rows], [row.ids[row.prompt :] for row in rows]
    return {
        "prompt_ids": padded(prompts, "left"),
        "prompt_mask": padded([torch.ones_like(ids) for ids in prompts], "left"),
        "completion_ids": padded(completions, "right"),
        "completion_mask": padded([torch.ones_like(ids) for ids in completions], "right"),
        "old_per_token_logps": padded([row.logprobs for row in rows], "right"),
        "advantages": torch.tensor([row.advantage for row in rows]),
    }


def timed(contenders: dict[str, Step], rounds: int) -> dict[str, float]:
    """The median CPU seconds of a step of each, after one round that is not timed.

    Raises:
        RuntimeError: they do not train on the same loss, so a comparison would mean nothing.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        found: dict[str, Any] = {}
        for name, step in contenders.items():
            began = time.process_time()
            found[name] = step()
            if number:
                seconds[name].append(time.process_time() - began)
        if not all(np.allclose(values, found["trainer"], atol=AGREE, rtol=AGREE) for values in found.values()):
            raise RuntimeError(f"loss and gradient norm differ: {found}")
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(found: dict[str, Any]) -> str:
    lines = [f"{found['parameters'] / 1e6:.1f} M parameters, {found['tokens']} tokens, float32, one core"]
    for name, seconds in found["cpu_seconds"].items():
        line = f"{name}: {found['tokens'] / seconds:.0f} tokens/s ({seconds:.2f} CPU seconds a step)"
        lines.append(line + (f"; the trainer is {found['ratio'][name]:.2f} times as fast" if name != "trainer" else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
