"""Check `agent.members`, and derive each agent's prompt and tools."""

import re
from graphlib import CycleError, TopologicalSorter
from typing import Any

from aworld.config import Agent, Member
from aworld.errors import InputError

ALONE = "agent"
USER, TOOLS = "user", "tools"
ASK, HAND_TO = "ask_", "hand_to_"
CONTEXTS = ("append", "drop", "summarise")
LAST_TURNS = ("answer", "none")
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def members(config: Agent) -> dict[str, Member]:
    """The agents by name; without `agent.members` there is one."""
    return config.members or {ALONE: Member()}


def order(config: Agent) -> list[str]:
    """Who works on the question, one after another; the last one's answer is the episode's."""
    return config.order or [next(iter(members(config)))]


def check(config: Agent) -> None:
    """
    Raises:
        InputError: an agent that is named is not there, agents ask each other in a circle, or an order comes back to
            one it had; or there is no such way to keep a context short, or to end.
    """
    them = members(config)
    for name, member in them.items():
        where = f"agent.members.{name}"
        if not NAME.fullmatch(name) or name in (USER, TOOLS):
            raise InputError(f"{where}: not a name for an agent; use a-z, 0-9 and _, up to 32, and not {USER}, {TOOLS}")
        for key, named in (("asks", member.asks), ("hands_to", member.hands_to), ("guard", _guard(member))):
            for other in named:
                if other not in them:
                    raise InputError(f"{where}.{key}: no agent '{other}'; there are: {', '.join(them)}")
        if name in member.hands_to:
            raise InputError(f"{where}.hands_to: an agent cannot hand over to itself")
    for name in config.order:
        if name not in them:
            raise InputError(f"agent.order: no agent '{name}'; there are: {', '.join(them)}")
        if config.order.count(name) > 1:
            raise InputError(f"agent.order: a workflow has no cycles, and {name} comes up more than once")
    try:
        TopologicalSorter({name: [*member.asks, *_guard(member)] for name, member in them.items()}).prepare()
    except CycleError as cycle:
        raise InputError(f"agent.members ask in a circle: {' → '.join(reversed(cycle.args[1]))}") from None
    if config.last_turn not in LAST_TURNS:
        raise InputError(f"agent.last_turn={config.last_turn}: no such way; valid: {', '.join(LAST_TURNS)}")
    if config.context not in CONTEXTS:
        raise InputError(f"agent.context={config.context}: no such way; valid: {', '.join(CONTEXTS)}")


def check_for_training(config: Agent) -> None:
    """
    Raises:
        InputError: episodes played so could not be trained on.
    """
    if config.context != "append":
        raise InputError(
            f"agent.context={config.context} takes turns out of what the policy saw, which training must not; use "
            "append, and the other in evaluations alone"
        )


def prompt(config: Agent, member: Member) -> str:
    """What is common to all agents, then this one's own."""
    return "\n\n".join(part for part in (config.system_prompt, member.system_prompt) if part)


def offered(config: Agent, name: str, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The specs of what an agent may call: its share of the environment's tools, and other agents.

    Raises:
        InputError: it is to have a tool that the environment does not.
    """
    them = members(config)
    member = them[name]
    by_name = {tool["function"]["name"]: tool for tool in tools}
    for tool in member.tools or []:
        if tool not in by_name:
            raise InputError(f"agent.members.{name}.tools: no tool '{tool}'; there are: {', '.join(by_name)}")
    own = tools if member.tools is None else [by_name[tool] for tool in member.tools]
    asks = [_spec(ASK + n, f"Ask {n}. {them[n].does}", "question", "what to ask") for n in member.asks]
    hands = [
        _spec(
            HAND_TO + n,
            f"Hand the whole question over to {n}, who answers it. {them[n].does}",
            "notes",
            "what is known",
        )
        for n in member.hands_to
    ]
    return [*own, *asks, *hands]


def _guard(member: Member) -> list[str]:
    return [member.guard] if member.guard else []


def _spec(name: str, description: str, parameter: str, meaning: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {parameter: {"type": "string", "description": meaning}},
        "required": [parameter],
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description.strip(), "parameters": parameters},
    }
