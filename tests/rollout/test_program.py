"""Agent programs in real sandboxes: what they see, how their answers are read, and how they fail."""

import asyncio
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from aworld.agents.chat import ChatFormat
from aworld.agents.gateway import Gateway
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.tokens import PolicyModel
from aworld.config import Agent, AgentProgram, Environment
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, choose
from aworld.rollout.program import ProgramTeam
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.tools

AGENT = Agent(system_prompt="", max_turns=3, max_tokens=400, episode_seconds=60, turn_tokens=200)
ASK = """
    import json, os, sys, time, urllib.request

    def post(url, body):
        key = os.environ["OPENAI_API_KEY"]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        headers["Accept"] = "application/json, text/event-stream"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as reply:
            return json.load(reply)

    def ask(*messages):
        url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        return post(url, {"model": "m", "messages": list(messages)})["choices"][0]["message"]

    def call(name, **arguments):
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        return post(os.environ["AWORLD_MCP_URL"], body)["result"]["content"][0]["text"]

    question = {"role": "user", "content": sys.stdin.read()}
"""
FILES = "; [open(str(n), 'wb').write(bytes(30 << 20)) for n in range(4)]; time.sleep(60)"


@pytest.fixture(scope="module")
def chat(checkpoint: Callable[..., Path]) -> ChatFormat:
    return ChatFormat(checkpoint())


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[asyncio.Runner, Gateway]]:
    with asyncio.Runner() as runner:
        gateway = Gateway()
        runner.run(gateway.start())
        yield runner, gateway
        runner.run(gateway.stop())


@pytest.fixture
def play(gateway: tuple[asyncio.Runner, Gateway], chat: ChatFormat, tmp_path: Path) -> Callable[..., Episode]:
    """`play(program, …)`: the episode of a program in Python, with a policy that says `says`."""
    runner, server = gateway

    def run(
        program: str,
        *says: str,
        sandbox: Sandbox | None = None,
        files: tuple[Path, ...] = (),
        agent: Agent = AGENT,
        **limits: int,
    ) -> Episode:
        box = sandbox or choose("auto", "")
        script = tmp_path / "program" / "agent.py"
        script.parent.mkdir()
        script.write_text(textwrap.dedent(ASK) + textwrap.dedent(program))
        own = replace(agent, program=AgentProgram([box.python, str(script)], "", [str(script.parent)]))
        config = Environment(servers=["python", "files"], slots=1, reuse="reset")

        async def story() -> Episode:
            model = PolicyModel(ScriptedPolicy(chat, list(says)), chat, own, 4000)
            async with EnvironmentPool(config, box, None, tmp_path) as pool, pool.episode(files) as environment:
                team = ProgramTeam(own, model, server)
                return await team.run(
                    Task("t", "What is 6*7?", "42", 1, files), environment, round=1, attempt=0, seed=3
                )

        return runner.run(story())

    return run


def test_a_program_sees_question_files_tools_and_nothing_else(play, sandbox, tmp_path):
    file = tmp_path / "prices.csv"
    file.write_text("item, price\n")
    outside = tmp_path / "outside"
    outside.write_text("secret")
    program = f"""
        import socket
        reply = ask(question, {{"role": "user", "content": open("prices.csv").read() + call("python", code="6*7")}})
        open("made", "w").write("x")
        assert "made" in call("python", code="import os; print(os.listdir())")
        assert "PYTHONPATH" not in os.environ or not os.environ["PYTHONPATH"]
        reached = []
        if os.environ["HOME"] == "/episode":  # a sandbox with a file system and a network of its own
            try:
                socket.create_connection(("1.1.1.1", 53), 1)
                reached.append("network")
            except OSError:
                pass
            reached += [path for path in ({str(outside)!r}, {str(Path.home() / ".cache")!r}) if os.path.exists(path)]
        print("thinking aloud")
        print("<answer>", reply["content"], reached, "</answer>\\n\\n")
    """
    episode = play(program, "42", sandbox=sandbox, files=(file,))
    assert (episode.status, episode.answer, episode.error) == ("answered", "42 []", "")
    prompt = episode.turns[1]  # after the call
    assert prompt.role == "prompt" and "What is 6*7?\n\nAttached: prices.csv" in prompt.text
    assert "item, price\n42" in prompt.text
    assert [turn.tool for turn in episode.tool_turns] == ["python", "python"]


@pytest.mark.parametrize(
    ("program", "status", "answer", "error"),
    [
        ("ask(question)", "no_answer", None, ""),
        ("print('41'); ask(question); print('The answer:\\n 42 \\n')", "answered", "42", ""),
        (
            "ask(question); print('7'); raise SystemError('broken')",
            "no_answer",
            None,
            "exit status 1: SystemError: broken",
        ),
        ("ask(question); os.kill(os.getpid(), 9)", "no_answer", None, "exit status 137"),
        ("ask(question); print('x' * (17 << 20))", "no_answer", None, "it flooded its stdout"),
        ("ask(question); sys.stderr.write('x' * (17 << 20))", "no_answer", None, "it flooded its stderr"),
        (f"ask(question){FILES}", "no_answer", None, "its files used more than 64 MB"),
        ("[ask(question) for _ in range(4)]", "max_turns", None, "exit status 1: urllib.error.HTTPError"),
        ("print('42')", "infra_error", None, "the program ended without a turn of the policy"),
        ("import no_such_library", "infra_error", None, "No module named 'no_such_library'"),
    ],
)
def test_how_a_program_ends_is_the_outcome(play, program, status, answer, error):
    episode = play(program, "A", "B", "C")
    assert (episode.status, episode.answer) == (status, answer)
    assert error in episode.error and bool(error) == bool(episode.error)
    assert bool(sum(episode.mask)) == (status != "infra_error")


def test_a_program_that_asks_in_vain_for_ever_is_ended(play):
    program = """
        while True:
            try:
                ask(question)
            except OSError:
                pass
    """
    episode = play(program, "A", "B", "C")
    assert episode.status == "max_turns" and "after 100 refusals; the last: the episode's 3 turns" in episode.error


def test_a_program_that_hangs_is_ended_with_all_that_it_started(play, sandbox, tmp_path):
    program = """
        ask(question)
        os.fork() or os.setsid() or os.fork()
        print("7", flush=True)
        time.sleep(1000.25)
    """
    began = time.monotonic()
    episode = play(program, "A", sandbox=sandbox, agent=replace(AGENT, episode_seconds=8))
    assert (episode.status, episode.answer) == ("timeout", None)
    assert episode.error == "not finished within 8 s" and time.monotonic() - began < 40
    assert sum(episode.mask) > 0
    script = str(tmp_path / "program" / "agent.py")
    left = [one for one in psutil.process_iter(["cmdline"]) if script in (one.info["cmdline"] or [])]
    assert [one for one in left if one.pid != os.getpid()] == []


def test_a_program_that_is_not_there_says_so(gateway, chat, tmp_path):
    runner, server = gateway
    own = replace(AGENT, program=AgentProgram(["/nowhere/agent"]))

    async def story() -> Episode:
        config = Environment(servers=["python"], slots=1)
        async with EnvironmentPool(config, choose("auto", ""), None, tmp_path) as pool, pool.episode() as environment:
            team = ProgramTeam(own, PolicyModel(ScriptedPolicy(chat, []), chat, own, 1000), server)
            return await team.run(Task("t", "?", "42", 1), environment, round=1, attempt=0, seed=3)

    episode = runner.run(story())
    assert (episode.status, episode.turns) == ("infra_error", [])
    assert episode.error == "the program failed: exit status 127: /nowhere/agent: No such file or directory"
