"""How the policy learns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aworld.config.endpoint import Endpoint
from aworld.config.fields import choice, number, setting


@dataclass
class Teacher(Endpoint):
    """A stronger model: behind an endpoint, or in a folder that the workers' own vLLM serves; without either, none."""

    path: str = ""  # its HF folder; model.shard and model.dtype hold for its shards too


@dataclass
class ColdStart:
    """Round 0: supervised training on right episodes, or on conversations. Without tasks and conversations, none."""

    tasks: int = number(0, at_least=0)
    # who plays them where there is no teacher: the scripted expert of the tasks | the policy itself
    player: str = choice("expert", "expert", "policy")
    teacher: Teacher = setting(Teacher)
    attempts: int = number(1, at_least=1)  # per task; every right one is learned from
    # rows {"messages": […], "tools": […]} to learn from, in the place of tasks: a file or a folder, as of tasks.path
    conversations: str = ""
    epochs: int = number(1, at_least=1)
    batch_size: int = number(64, at_least=1)  # episodes per optimizer step
    lr: float = number(1e-3, above=0)
    warmup_steps: int = number(0, at_least=0)  # over which the learning rate rises linearly
    # the training ends once the policy repeats a whole episode with this probability, token by token
    stop_at: float = number(1.0, above=0)

    @property
    def is_on(self) -> bool:
        """Whether there is a cold start at all."""
        return bool(self.tasks or self.conversations)

    @property
    def shown(self) -> int:
        """Number of the tasks that it shows: the first ones to train on."""
        return 0 if self.conversations else self.tasks

    @property
    def has_teacher(self) -> bool:
        return bool(self.teacher.model or self.teacher.path)

    @property
    def has_expert(self) -> bool:
        """Whether the tasks' scripted expert plays them."""
        return bool(self.tasks) and self.player == "expert" and not self.has_teacher and not self.conversations

    @property
    def played_by(self) -> str:
        """The name of the player, for people; `conversations` where no episode is played."""
        if self.conversations:
            return "conversations"
        if self.has_teacher:
            return f"the teacher {self.teacher.model or Path(self.teacher.path).name}"
        return f"the {self.player}"

    @property
    def needs_shard(self) -> bool:
        """Whether a vLLM plays them: that of the policy, or of a teacher in a folder."""
        return not self.conversations and (
            bool(self.teacher.path) or (self.player == "policy" and not self.has_teacher)
        )


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
