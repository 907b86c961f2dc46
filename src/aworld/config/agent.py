"""The agents and the loop that they act in."""

from dataclasses import dataclass

from omegaconf import MISSING

from aworld.config.endpoint import Endpoint
from aworld.config.fields import choice, number, setting


@dataclass
class Member:
    """One of several agents."""

    system_prompt: str = ""  # after agent.system_prompt, which is common to all
    does: str = ""  # its description, which the others read
    tools: list[str] | None = None  # of the environment's, by name; null: all
    asks: list[str] = setting(list)  # agents it may ask; each is one of its tools
    hands_to: list[str] = setting(list)  # agents that it may leave the question to
    guard: str = ""  # agent that sees its answer before it is given
    seconds: float = number(0.0, at_least=0)  # limit of an answer to another agent; 0: the episode's
    endpoint: Endpoint = setting(Endpoint)  # its model; none: the policy


@dataclass
class Agent:
    """The loop around the policy. `configs/agent/`. The limits hold for all agents together."""

    system_prompt: str = MISSING
    max_turns: int = number(8, at_least=1)
    max_tokens: int = number(1024, at_least=1)  # sampled tokens per episode
    episode_seconds: float = number(300.0, above=0)
    temperature: float = number(1.0, at_least=0)
    top_p: float = number(1.0, above=0, at_most=1)
    top_k: int = number(-1, at_least=-1)
    turn_tokens: int = number(512, at_least=1)  # sampled tokens per turn
    max_repeats: int = number(4, at_least=1)  # times in a row that the same call is played; one more ends the episode
    # tag: <answer>…</answer>, the paper's | final: FINAL ANSWER: …, GAIA's own
    answer_form: str = choice("tag", "tag", "final")
    # at a limit: answer: one turn more, for the answer alone | none: the episode ends
    last_turn: str = choice("none", "answer", "none")
    enable_thinking: bool = True  # of the policy's chat template, where it has such a switch
    context: str = "append"  # when full: append: end | drop: old turns go | summarise: the model sums them up
    # who plays the policy's episodes: a file of your own, /path/my_player.py:Player; "": the agents of this section
    player: str = ""
    members: dict[str, Member] = setting(dict)  # several agents, by name
    order: list[str] = setting(list)  # of a workflow; empty: the first member alone
