"""The loop that a user writes with transformers and torch: padded batches, all their logits, torch.optim.AdamW.

    python transformers_step.py FOLDER TOGETHER     # the folder has a Qwen3 and batch.pt; so many episodes in a batch

benchmarks/train_step.py starts it, and asks for a step by a line of stdin.
"""

import sys
from pathlib import Path

import torch
from step_by_line import serve
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen3ForCausalLM

folder, together = Path(sys.argv[1]), int(sys.argv[2])
given = torch.load(folder / "batch.pt")
batch, clip = given["rows"], given["clip"]
policy = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
optimizer = torch.optim.AdamW(policy.parameters(), fused=True, **given["adam"])


def step() -> tuple[float, float]:
    total = 0.0
    for at in range(0, len(batch), together):
        rows = batch[at : at + together]
        ids = pad_sequence([row["ids"] for row in rows], batch_first=True)
        attended, mask, old = torch.zeros_like(ids), torch.zeros(ids.shape), torch.zeros(ids.shape)
        for number, row in enumerate(rows):
            end = len(row["ids"])
            attended[number, :end] = 1
            mask[number, row["prompt"] : end] = 1
            old[number, row["prompt"] : end] = row["logprobs"]
        keep = ids.shape[1] - min(row["prompt"] for row in rows) + 1  # what comes before has no loss
        logits = policy(ids, attention_mask=attended, logits_to_keep=keep).logits[:, :-1]
        ids, mask, old = ids[:, -keep:], mask[:, -keep:], old[:, -keep:]
        new = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        mask, ratio = mask[:, 1:], (new - old[:, 1:]).exp()
        advantages = torch.tensor([[row["advantage"]] for row in rows])
        per_token = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        loss = ((per_token * mask).sum(1) / mask.sum(1)).sum() / len(batch)
        loss.backward()
        total += loss.item()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), given["clip_grad"]).item()
    optimizer.step()
    optimizer.zero_grad()
    return total, norm


serve(step)
