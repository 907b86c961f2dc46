"""The phases of a run: a cold start, rounds of reinforcement learning, and evaluations."""

from enum import Enum


class Phase(Enum):
    COLD_START = "cold start"
    ROUND = "round"
    EVALUATION = "evaluation"

    @classmethod
    def of(cls, round_: int) -> "Phase":
        """The phase of a round. Round 0 is the cold start: a scripted expert plays it, and the policy imitates it."""
        return cls.COLD_START if round_ == 0 else cls.ROUND

    @property
    def is_trained_on(self) -> bool:
        """Whether its episodes are gathered into trajectories."""
        return self is not Phase.EVALUATION
