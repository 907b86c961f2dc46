"""Optimizer steps of TRL's GRPOTrainer, from the point where episodes and advantages are known.

    python trl_step.py FOLDER TOGETHER      # the folder has a Qwen3 and batch.pt; so many episodes in a batch

benchmarks/train_step.py starts it, and asks for a step by a line of stdin.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from step_by_line import serve
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from trl import GRPOConfig, GRPOTrainer

Rows = list[dict[str, Any]]


def main() -> None:
    folder, together = Path(sys.argv[1]), int(sys.argv[2])
    serve(stepping(folder, torch.load(folder / "batch.pt"), together))


def stepping(folder: Path, given: dict[str, Any], together: int) -> Callable[[], tuple[float, float]]:
    """The function that makes a step on the batch."""
    batch = given["rows"]
    parts = [as_trl_pads(batch[at : at + together]) for at in range(0, len(batch), together)]
    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    trainer = GRPOTrainer(
        model=Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=settings(folder, given, together, len(parts)),
        train_dataset=Dataset.from_dict({"prompt": ["none"] * len(batch)}),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"),
    )
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = len(parts)
    policy = trainer.model
    policy.train()

    def step() -> tuple[float, float]:
        total = 0.0
        for part in parts:
            loss = trainer.compute_loss(policy, part)
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), given["clip_grad"]).item()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return total, norm

    return step


def settings(folder: Path, given: dict[str, Any], together: int, parts: int) -> GRPOConfig:
    """TRL's defaults, but for what the others train with."""
    adam = given["adam"]
    return GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        beta=0.0,
        epsilon=given["clip"],
        loss_type="grpo",
        per_device_train_batch_size=together,
        gradient_accumulation_steps=parts,
        num_generations=given["attempts"],
        gradient_checkpointing=False,
        learning_rate=adam["lr"],
        weight_decay=adam["weight_decay"],
        adam_beta1=adam["betas"][0],
        adam_beta2=adam["betas"][1],
        adam_epsilon=adam["eps"],
        report_to=[],
    )


def as_trl_pads(rows: Rows) -> dict[str, torch.Tensor]:
    """Prompts padded on the left, completions on the right."""

    def padded(parts: list[torch.Tensor], side: str) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_side=side)

    prompts, completions = (
        [row["ids"][: row["prompt"]] for row in rows],
        [row["ids"][row["prompt"] :] for row in rows],
    )
    return {
        "prompt_ids": padded(prompts, "left"),
        "prompt_mask": padded([torch.ones_like(ids) for ids in prompts], "left"),
        "completion_ids": padded(completions, "right"),
        "completion_mask": padded([torch.ones_like(ids) for ids in completions], "right"),
        "old_per_token_logps": padded([row["logprobs"] for row in rows], "right"),
        "advantages": torch.tensor([row["advantage"] for row in rows]),
    }


if __name__ == "__main__":
    main()
