import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from aworld.agents import roles
from aworld.config import CONFIGS, Agent, Member, load
from aworld.errors import InputError

pytestmark = pytest.mark.unit

TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": name}} for name in ("python", "list_files")]


def names(config: Agent, name: str) -> list[str]:
    return [tool["function"]["name"] for tool in roles.offered(config, name, TOOLS)]


def test_without_members_one_agent_has_all_tools() -> None:
    config = Agent(system_prompt="Think.")
    roles.check(config)
    assert roles.order(config) == list(roles.members(config)) == ["agent"]
    assert names(config, "agent") == ["python", "list_files"]
    assert roles.prompt(config, roles.members(config)["agent"]) == "Think."


def test_each_has_its_own_prompt_and_tools() -> None:
    solver = Member("Solve.", tools=["python"], asks=["checker"], hands_to=["writer"])
    config = Agent(
        "Think.", members={"solver": solver, "checker": Member(does="It checks.", tools=[]), "writer": Member()}
    )
    roles.check(config)
    assert names(config, "solver") == ["python", "ask_checker", "hand_to_writer"]
    assert names(config, "checker") == []
    assert names(config, "writer") == ["python", "list_files"]
    assert roles.prompt(config, solver) == "Think.\n\nSolve."
    ask = roles.offered(config, "solver", TOOLS)[1]["function"]
    assert ask["description"] == "Ask checker. It checks." and ask["parameters"]["required"] == ["question"]


@pytest.mark.parametrize(
    ("members", "changes", "message"),
    [
        ({"a": Member(asks=["b"])}, {}, r"agent\.members\.a\.asks: no agent 'b'; there are: a"),
        ({"a": Member(hands_to=["b"])}, {}, r"agent\.members\.a\.hands_to: no agent 'b'"),
        ({"a": Member(guard="b")}, {}, r"agent\.members\.a\.guard: no agent 'b'"),
        ({"a": Member(hands_to=["a"])}, {}, "cannot hand over to itself"),
        ({"a": Member(asks=["b"]), "b": Member(asks=["a"])}, {}, "ask in a circle: .* → .* → "),
        ({"a": Member(asks=["b"]), "b": Member(guard="a")}, {}, "ask in a circle"),
        ({"a": Member(asks=["a"])}, {}, "ask in a circle: a → a"),
        ({"a": Member()}, {"order": ["a", "c"]}, r"agent\.order: no agent 'c'"),
        ({"a": Member(), "b": Member()}, {"order": ["a", "b", "a"]}, "a workflow has no cycles, and a comes up more"),
        ({"tools": Member()}, {}, r"agent\.members\.tools: not a name"),
        ({"A b": Member()}, {}, "not a name for an agent"),
        ({"a": Member()}, {"context": "forget"}, r"agent\.context=forget: no such way; valid: append, drop, summarise"),
        ({"a": Member()}, {"last_turn": "often"}, r"agent\.last_turn=often: no such way; valid: answer, none"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(members: dict[str, Member], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        roles.check(Agent("Think.", members=members, **changes))
    assert "\n" not in str(error.value)


def test_a_tool_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"agent\.members\.a\.tools: no tool 'pyton'; there are: python, list_files"):
        roles.offered(Agent("Think.", members={"a": Member(tools=["pyton"])}), "a", TOOLS)


def test_only_what_keeps_the_prefix_is_trained_on() -> None:
    roles.check_for_training(Agent("Think."))
    with pytest.raises(InputError, match="takes turns out of what the policy saw"):
        roles.check_for_training(Agent("Think.", context="drop"))


def test_the_documented_example_fits_together() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (CONFIGS.parent / "docs" / "several-agents.md").read_text(), re.DOTALL)
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Agent), OmegaConf.create(text)))
    assert isinstance(config, Agent)
    roles.check(config)
    assert names(config, "coordinator") == ["ask_analyst"]
    assert names(config, "analyst") == ["python", "hand_to_expert"]


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_a_circle_is_found_where_there_is_one(graph: tuple[int, set[tuple[int, int]]]) -> None:
    count, edges = graph
    reach = set(edges)
    for _ in range(count):  # the transitive closure, by hand
        reach |= {(a, d) for a, b in reach for c, d in edges if b == c}
    members = {f"a{n}": Member(asks=[f"a{b}" for a, b in sorted(edges) if a == n]) for n in range(count)}
    if any(a == b for a, b in reach):
        with pytest.raises(InputError, match="in a circle"):
            roles.check(Agent("Think.", members=members))
    else:
        roles.check(Agent("Think.", members=members))


def test_a_shipped_guard_may_have_a_model_of_its_own() -> None:
    of_its_own = [f"agent.members.guard.endpoint.{word}" for word in ("model=big", "base_url=http://login1:8000/v1")]
    guard, policy = (
        load(["recipe=demo", "agent=guarded", *words]).agent.members["guard"] for words in (of_its_own, [])
    )
    assert (guard.endpoint.model, policy.endpoint.model) == ("big", "")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "agent").glob("*.yaml")))
def test_the_shipped_agents_fit_together(name: str) -> None:
    config = load(["recipe=demo", f"agent={name}"]).agent
    roles.check(config)
    assert config.turn_tokens <= config.max_tokens
