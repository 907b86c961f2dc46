"""How the policy learns."""

from dataclasses import dataclass
from typing import Any

from aworld.config.fields import choice, number, setting


@dataclass
class ColdStart:
    """Round 0: supervised training on episodes that a scripted expert solved. `tasks=0` leaves it out."""

    tasks: int = number(0, at_least=0)
    epochs: int = number(1, at_least=1)
    batch_size: int = number(64, at_least=1)  # episodes per optimizer step
    lr: float = number(1e-3, above=0)
    warmup_steps: int = number(0, at_least=0)  # over which the learning rate rises linearly
    # the training ends once the policy repeats an expert's whole episode with this probability
    stop_at: float = number(1.0, above=0)


@dataclass
class Training:
    """How the policy is trained on a round's trajectories."""

    # a name, or a file of your own: /path/mine.py, which is like those in training/algorithms/
    algorithm: str = setting("grpo", changes="between rounds")
    # of the algorithm, by the names of the fields in its file in training/algorithms/; null: its default
    options: dict[str, Any] = setting(dict, changes="between rounds")
    lr: float = number(6e-6, above=0, changes="between rounds")
    warmup_rounds: float = number(0.0, at_least=0, changes="between rounds")  # over which lr rises linearly from 0
    decay: str = choice("none", "none", "linear", "cosine", changes="between rounds")  # of lr to 0, after the warm-up
    decay_rounds: int = number(0, at_least=0, changes="between rounds")  # the round of the run at whose end lr is 0
    weight_decay: float = number(0.0, at_least=0)
    adam_beta1: float = number(0.9, at_least=0, below=1)
    adam_beta2: float = number(0.95, at_least=0, below=1)
    adam_eps: float = number(1e-8, above=0)
    clip_grad: float = number(1.0, at_least=0, changes="between rounds")  # 0: gradients are not clipped
    # null: the algorithm's own, as its file in training/algorithms/ says
    clip_low: float | None = number(None, at_least=0, changes="between rounds")
    clip_high: float | None = number(None, at_least=0, changes="between rounds")
    # most that the ratio to the sampling policy can be; cispo has 1 + clip_high in its place
    ratio_cap: float = number(2.0, above=0, changes="between rounds")
    batch_size: int = number(128, at_least=1, changes="between rounds")  # episodes per optimizer step
    # tokens of a forward pass; contexts share one up to this sum, and a longer context has one of its own
    micro_batch_tokens: int = number(16384, at_least=1, changes="any time")
    epochs: int = number(1, at_least=1, changes="between rounds")  # passes over a round's trajectories
    # an episode that ran out of time counts, unless it lost a larger share of its time to the engine or the tools
    stalled_share: float = number(0.1, at_least=0, at_most=1)
    save_seconds: float = number(600.0, at_least=0, changes="any time")  # between two checkpoints; 0: after each step
    # every n-th policy is a whole HF folder; each other one is a delta to the version before it. 1: all are whole
    full_policy_every: int = number(1, at_least=1, changes="any time")
    made_for: str = setting("", changes="any time")  # the model.name that these settings suit; "": any
    cold_start: ColdStart = setting(ColdStart)
