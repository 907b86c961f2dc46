"""A tiny policy that has learned to answer.

Log-probabilities of a policy with random weights are all uncertain, and rounding shows in each. A trained policy is
certain of most tokens and uncertain of some. So this one learns a sentence whose digits are random.
"""

from pathlib import Path
from typing import Any

QUESTIONS = ("What is 2+2?", "What is the price of tea in prices.csv?", "Find the height of Arden.")
SENTENCES = (
    "It is {} or {}; I looked twice, then found {} and last {}.",
    "Nobody knows: between {} and {}, perhaps {}, not {}.",
)
STEPS, BATCH, LR = 120, 8, 2e-3


def prompts(folder: Path) -> list[list[int]]:
    from aworld.agents.chat import ChatFormat

    return [ChatFormat(folder).prompt("Use tools, then answer.", question, []) for question in QUESTIONS]


def learn(folder: Path, seed: int) -> dict[str, Any]:
    """The weights of the HF folder after some steps of AdamW, float32; another seed learns another sentence."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from aworld.agents.chat import ChatFormat

    chat, rng, asked = ChatFormat(folder), np.random.default_rng(seed), prompts(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / 10)
        prompt = asked[step % len(asked)]
        numbers = rng.integers(10, 100, (BATCH, 4))  # a token for each digit: all answers are of one length
        ids = torch.tensor([prompt + chat.assistant(SENTENCES[seed % 2].format(*row)) for row in numbers])
        labels = ids.masked_fill(torch.arange(ids.shape[1]) < len(prompt), -100)
        loss = model(ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    tied = model.config.tie_word_embeddings
    return {name: value for name, value in model.state_dict().items() if not (tied and name == "lm_head.weight")}
