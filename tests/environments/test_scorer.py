"""Answers that are executed to score them, in each sandbox that works here: they harm nobody but themselves."""

import asyncio
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from aworld import config as schema
from aworld.environments.sandbox import Sandbox, choose
from aworld.environments.scorer import Scorer
from aworld.errors import InfrastructureError
from aworld.rollout.scoring import answered
from aworld.tasks.gym import GymTasks
from aworld.tasks.rewards import OwnReward, mathematical
from aworld.tasks.task import Program, Task, Undecided, Worth
from aworld.trajectories.episode import Turn

pytestmark = pytest.mark.tools
LIMITS = schema.Environment(call_seconds=3.0, memory_mb=1024, processes=32)
EVALUATES = """
    import os, subprocess, sys, time
    seen = []
    def score(request):
        return eval(request["answer"])
"""


def scored(file: Path, answers: list[str], sandbox: Sandbox, root: Path) -> list[float]:
    async def story() -> list[float]:
        async with Scorer(sandbox, LIMITS, root) as scorer:
            return [(await scorer.run(Program(file, {"answer": answer}))).reward for answer in answers]

    root.mkdir()
    return asyncio.run(story())


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(EVALUATES))
    return file


def test_an_answer_costs_itself_alone(program: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    orphan = "subprocess.Popen(['sleep', '3611'], start_new_session=True) and 0.5"
    answers = {
        "0.25": 0.25,
        "seen.append(1) or len(seen) / 4": 0.25,
        "len(seen) / 4": 0.0,  # each has a process of its own
        "print(1) or sys.stdout.flush() or 0.5": 0.5,  # its words are not taken for replies
        "1/0": 0.0,
        "sys.exit()": 0.0,
        "'many'": 0.0,
        "float('nan')": 0.0,
        "2.0": 0.0,
        "time.sleep(3600)": 0.0,
        orphan: 0.5,
        "len([0] * 10**9)": 0.0,  # more memory than there is
        "os.kill(os.getppid(), 9) or time.sleep(60)": 0.0,  # its server
        "'\\ud83d' and 0.75": 0.75,
        "open('left', 'w').write('x') / 2": 0.5,
        "os.path.exists('left') + 0.25": 0.25,  # files go, too
        "[open(str(n), 'w').write('x' * 10**6) for n in range(99)] and time.sleep(60)": 0.0,  # more than fit
        "os.path.exists('0') + 0.75": 0.75,
    }
    began = time.monotonic()
    assert scored(program, list(answers), sandbox, tmp_path / "root") == list(answers.values())
    assert time.monotonic() - began < 240
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "3611"]]
    assert list((tmp_path / "root").iterdir()) == []


def test_what_keeps_an_answer_in_keeps_files_out_of_reach(program: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    if "files of this user" in sandbox.gaps:
        pytest.skip(f"{sandbox.name} does not keep it in")
    secret = tmp_path / "secret"
    secret.write_text("gold")
    answers = [f"len(open({str(secret)!r}).read()) / 4", f"open({str(tmp_path / 'owned')!r}, 'w').write('x') / 1"]
    assert scored(program, answers, sandbox, tmp_path / "root")[0] == 0.0
    assert not (tmp_path / "owned").exists()  # at most in a /tmp of its own


def test_reasoning_gyms_scorers_work_there(sandbox: Sandbox, tmp_path: Path) -> None:
    source = GymTasks(schema.Tasks(source="gym", train=1, held_out=0, datasets=["spiral_matrix"]), tmp_path / "tasks")
    (task,) = source.tasks("train")
    owned = tmp_path / "owned"
    attack = f"[__import__('pathlib').Path({str(owned)!r}).write_text('x')]"

    async def story() -> list[float]:
        async with Scorer(sandbox, schema.Environment(), tmp_path) as scorer:
            return [
                (await scorer.run(source.score(answer, task))).reward for answer in (task.answer, "[", None, attack)
            ]

    right, *wrong = asyncio.run(story())
    assert right == 1.0 and max(wrong) < 0.1
    assert owned.exists() == ("files of this user" in sandbox.gaps)


def test_a_program_that_cannot_start_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import no_such_library")
    with pytest.raises(InfrastructureError, match=r"broken.py does not score in .*: ModuleNotFoundError"):
        scored(file, ["1"], choose("auto", ""), tmp_path / "root")


OWN = """
import os, subprocess, time
calls = []
def score(episode, task):
    calls.append(1)
    if task.metadata["do"] == "look":
        found = {path.name: path.read_text() for path in episode.files}
        python = [turn for turn in episode.calls if turn.tool == "python" and not turn.is_error]
        right = found == {"made.txt": "42", "given.csv": "1,2"} and python[0].text == "42" and len(calls) == 1
        seconds = episode.seconds["total"]
        return {"reward": right, "turns": len(episode.turns), "tokens": episode.tokens, "seconds": seconds}
    return eval(task.metadata["do"])
"""


def test_an_own_reward_sees_the_episode_and_its_failures_are_named(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "my_reward.py"
    file.write_text(OWN)
    reward = OwnReward(file, "score", 1.0)
    turns = [Turn("prompt", "?"), Turn("assistant", "it is"), Turn("tool", "42", "python", {"code": "6*7"})]

    async def story() -> list[Worth | str]:
        async with Scorer(sandbox, LIMITS, tmp_path) as scorer:

            async def worth(do: str) -> Worth | str:
                folder = scorer.folder()
                (folder / "sub").mkdir()
                (folder / "sub" / "made.txt").write_text("42")
                (folder / "given.csv").write_text("1,2")
                task = Task("a", "?", "42", 1, metadata={"do": do})
                if do == "no JSON":
                    task = replace(task, metadata={"a set": {1}})
                episode = replace(answered(task, "42"), turns=turns, mask=[0, 1, 1], seconds={"total": 2.5})
                try:
                    return await scorer.run(reward(episode, task, folder))
                except Undecided as error:
                    assert folder.exists() == (do == "no JSON")
                    return str(error)

            asked = ("look", "1 / 0", "time.sleep(60)", "os._exit(3)", "{'format': 1}", "no JSON", "look")
            given = [await worth(do) for do in asked]
            assert not list(tmp_path.glob("aworld-scoring-*/*/files"))  # nothing is left to the next episode
            began = time.monotonic()
            await asyncio.gather(*(worth("time.sleep(0.8) or 1.0") for _ in range(8)))
            assert time.monotonic() - began < 6.4  # several servers score at the same time
            return given

    looked, raised, slept, ended, no_reward, no_json, again = asyncio.run(story())
    assert looked == again == Worth(1.0, {"turns": 3.0, "tokens": 2.0, "seconds": 2.5})
    name = f"the reward {file}:score"
    assert raised == f"{name} raised ZeroDivisionError: division by zero (<string> line 1)"
    assert slept == f"{name} gave nothing: it did not return within 1 s, or ended its process"
    assert ended == slept
    assert no_reward == f"{name} gave a dict without 'reward', with format"
    assert no_json.startswith(f"{name} was not asked: its request is no JSON (")


RUNS = """
import sys
def score(episode, task):
    ran = episode.run([sys.executable, "-c", task.metadata["code"]], seconds=task.metadata["seconds"], stdin="6*7")
    status = -1000 if ran.exit_status is None else ran.exit_status
    return {"reward": 0.25, "status": status, "right": ran.stdout == "42"}
"""
FORGES = """
import json, os
reply = json.dumps({"worth": 1.0}).encode()
reply = len(reply).to_bytes(4, "big") + reply
reached = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid() and b"score_server" in open(f"/proc/{pid}/cmdline", "rb").read():
        reached += 1
        for fd in range(64):
            try:
                os.write(os.open(f"/proc/{pid}/fd/{fd}", os.O_WRONLY), reply)
            except OSError:
                pass
        try:
            open(f"/proc/{pid}/mem", "rb")
            print("its memory can be read")
        except OSError:
            pass
print(end="42" if reached else "")
"""


def test_a_program_that_a_reward_runs_cannot_set_its_own_score(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "my_reward.py"
    file.write_text(RUNS)
    reward = OwnReward(file, "score", 20.0)

    async def story() -> list[Worth | str]:
        async with Scorer(sandbox, LIMITS, tmp_path) as scorer:

            async def worth(code: str, seconds: float = 10.0) -> Worth | str:
                task = Task("a", "?", "42", 1, metadata={"code": code, "seconds": seconds})
                try:
                    return await scorer.run(reward(answered(task, "42"), task, scorer.folder()))
                except Undecided as reason:
                    return str(reason)

            return [
                await worth("print(end=str(eval(input())))"),
                await worth("raise SystemExit(3)"),
                await worth("print(end='42', flush=True); __import__('time').sleep(60)", 1.0),
                await worth(FORGES),
                await worth("print(end=str(eval(input())))"),
            ]

    right, failed, slept, forged, again = asyncio.run(story())
    assert right == again == Worth(0.25, {"status": 0.0, "right": 1.0})
    assert failed == Worth(0.25, {"status": 3.0, "right": 0.0})
    assert slept == Worth(0.25, {"status": -1000.0, "right": 1.0})
    # where the sandbox has a process that holds the server's stdout, the attempt is seen
    assert forged in (right, f"the reward {file}:score gave nothing: another process wrote into its reply")


def test_math_is_compared_in_the_sandbox(tmp_path: Path) -> None:
    task = Task("a", "?", r"\frac{1}{2}", 1)
    answers = (r"so it is $\frac{2}{4}$", "0.5", "2", "9**9**9**9")

    async def story() -> list[float]:
        async with Scorer(choose("auto", ""), schema.Environment(call_seconds=20.0), tmp_path) as scorer:
            return [(await scorer.run(mathematical(answer, task))).reward for answer in answers]

    assert asyncio.run(story()) == [1.0, 1.0, 0.0, 0.0]
