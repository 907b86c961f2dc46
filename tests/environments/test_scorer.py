"""Answers that are executed to score them, in each sandbox that works here: they harm nobody but themselves."""

import asyncio
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from aworld import config as schema
from aworld.environments.sandbox import Sandbox, choose
from aworld.environments.scorer import Scorer
from aworld.errors import InfrastructureError
from aworld.tasks.gym import GymTasks
from aworld.tasks.task import Program

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
