"""A task's own image: the agent works in it, a test decides, and neither the agent's tricks nor its processes count."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from task_folders import SOLUTION, TEST, small_image

from aworld import config as schema
from aworld.environments.pool import EnvironmentPool, NotStarted
from aworld.environments.sandbox import SubprocessSandbox
from aworld.environments.scorer import Scorer
from aworld.environments.verify import Verdict
from aworld.errors import InputError
from aworld.tasks.task import Container, Undecided, Verification

pytestmark = pytest.mark.tools
CONFIG = schema.Environment(servers=["terminal", "files"], slots=2, call_seconds=20.0, scratch_mb=16)


@pytest.fixture(scope="session")
def images(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    return once("small-image", small_image)


@pytest.fixture
def container(images: Path, tmp_path: Path) -> Container:
    return make(images / "small.sif", tmp_path)


def make(image: Path, folder: Path, test: str = TEST) -> Container:
    tests = folder / "tests"
    tests.mkdir()
    (tests / "test.sh").write_text(test)
    (tests / "expected").write_text("7\n")
    return Container(image, "/app", tests, test_env={"MORE": "given"}, test_seconds=30.0)


def played(
    container: Container, root: Path, *commands: str, config: schema.Environment = CONFIG
) -> list[str | Verdict]:
    """What the terminal says to each command in one episode, and last the outcome of the test."""

    async def story() -> list[str | Verdict]:
        sandbox = SubprocessSandbox()
        async with Scorer(sandbox, config, root) as scorer, EnvironmentPool(config, sandbox, None, root) as pool:
            left, said = scorer.folder(), []
            async with pool.episode(left=left, container=container) as environment:
                for command in commands:
                    said.append((await environment.call("terminal", {"command": command})).text)
            return [*said, await scorer.verify(Verification(container, left))]

    return asyncio.run(story())


def worth(outcome: str | Verdict) -> float:
    assert isinstance(outcome, Verdict)
    return outcome.worth.reward


@pytest.mark.parametrize("image", ["small.sif", "root"])
def test_the_test_sees_the_files_that_the_agent_left(image: str, images: Path, tmp_path: Path) -> None:
    container = make(images / image, tmp_path)
    look = f"{SOLUTION}; pwd; cat sum.txt; echo $HOME; ls /tests /solution /logs; type python3"
    said, outcome = played(container, tmp_path, look)
    assert isinstance(said, str) and said.startswith("/app\n7\n/root\n")
    assert said.count("No such file or directory") == 3 and "python3: not found" in said
    assert worth(outcome) == 1.0


def test_nothing_of_an_episode_is_left_to_the_next_one(container: Container, tmp_path: Path) -> None:
    files = "echo 7 > sum.txt; rm data.txt; echo mine > /etc/mine; touch /tmp/mine /dev/shm/mine /episode/mine"
    assert worth(played(container, tmp_path, files)[-1]) == 1.0
    said, outcome = played(container, tmp_path, "ls . /tmp /dev/shm /episode; cat /etc/mine data.txt; ls /tests")
    assert isinstance(said, str) and "mine\n" not in said and "3 4" in said
    assert worth(outcome) == 0.0
    assert not list(tmp_path.glob("aworld-*"))


FORGE = "mkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt"


@pytest.mark.parametrize(
    "trick",
    [
        f"{FORGE};mkdir /tests; echo '{FORGE}' > /tests/test.sh; setsid bash -c 'while sleep 0.1; do {FORGE}; done' &",
        "ln -s /app /tests; ln -s /app /logs; mkdir verifier; echo 1 > verifier/reward.txt; echo exit > /root/.bashrc",
        "rm -rf /bin /lib64 /usr",
        "rm -rf /tests /logs; ln -s /episode /logs; mkdir /tests; chmod 0 /tests; chmod 555 /",
    ],
)
def test_the_agent_gives_itself_no_reward(trick: str, container: Container, tmp_path: Path) -> None:
    outcome = played(container, tmp_path, trick)[-1]
    assert worth(outcome) == 0.0
    left = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in left if FORGE in " ".join(words)]


def test_a_reward_that_is_a_link_is_none(images: Path, tmp_path: Path) -> None:
    """The file of this machine is not read, and none of it is written."""
    (tmp_path / "outside").write_text("1")
    script = f"ln -s {tmp_path / 'outside'} /logs/verifier/reward.txt; ln -s / /logs/verifier/reward.json"
    (outcome,) = played(make(images / "small.sif", tmp_path, script), tmp_path)
    assert isinstance(outcome, Verdict) and worth(outcome) == 0.0 and outcome.said.startswith("it gave no reward")
    assert (tmp_path / "outside").read_text() == "1"


@pytest.mark.parametrize(
    "script", ["n=$(printf %060000d 0); echo ${n//0/[}", "echo 1$(printf %0400d 0)"], ids=["nested", "huge"]
)
def test_a_reward_that_cannot_be_read_is_none(script: str, images: Path, tmp_path: Path) -> None:
    (outcome,) = played(make(images / "small.sif", tmp_path, f"{script} > /logs/verifier/reward.json"), tmp_path)
    assert worth(outcome) == 0.0


def test_a_test_is_limited_and_may_say_more_than_one_number(images: Path, tmp_path: Path) -> None:
    script = 'touch beside; echo \'{"reward": 0.5, "style": 2}\' > /logs/verifier/reward.json; echo $MORE; exit 1'
    (outcome,) = played(make(images / "small.sif", tmp_path, script), tmp_path)
    assert isinstance(outcome, Verdict)
    assert (outcome.worth.reward, outcome.worth.parts, outcome.said) == (0.5, {"style": 2.0}, "exit status 1: given")
    (tmp_path / "other").mkdir()
    slow = make(images / "small.sif", tmp_path / "other", "sleep 3617 & sleep 3617")
    began = time.monotonic()
    (outcome,) = played(replace(slow, test_seconds=2.0), tmp_path)
    assert isinstance(outcome, Verdict) and outcome.said == "it gave no reward: it ran longer than 2 s"
    assert time.monotonic() - began < 20
    assert not [process for process in psutil.process_iter(["cmdline"]) if "3617" in (process.info["cmdline"] or [])]


def test_limits_hold_and_an_episode_goes_on_where_it_was(container: Container, tmp_path: Path) -> None:
    forks = "echo 7 > sum.txt; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 19 & done; wait"
    fill = "while :; do n=$((n + 1)); head -c 4M /dev/zero > $n.big; sleep 0.05; done"
    config = replace(CONFIG, processes=16)
    many, after, much, outcome = played(container, tmp_path, forks, "cat sum.txt", fill, config=config)
    assert isinstance(many, str) and "it had more than 16 processes" in many
    assert after == "7"
    assert isinstance(much, str) and "its files used more than 16 MB" in much
    assert worth(outcome) == 1.0


def test_long_results_are_kept_where_the_terminal_finds_them(container: Container, tmp_path: Path) -> None:
    config = replace(CONFIG, result_chars=50)
    said, again, _ = played(container, tmp_path, "ls -l /bin", "head -c 9 /episode/result-1.txt", config=config)
    assert isinstance(said, str) and said.endswith("the whole of this result is in /episode/result-1.txt]")
    assert again == "total " + said[6:9]


def test_an_image_that_does_not_start_is_nobodys_failure(container: Container, tmp_path: Path) -> None:
    (tmp_path / "torn.sif").write_bytes(container.image.read_bytes()[: 1 << 16])
    torn = replace(container, image=tmp_path / "torn.sif")

    async def play() -> None:
        async with EnvironmentPool(CONFIG, SubprocessSandbox(), None, tmp_path) as pool:
            with pytest.raises(NotStarted, match=r"torn\.sif: an environment did not start"):
                async with pool.episode(container=torn):
                    pass
            assert not list(tmp_path.glob("aworld-environments-*/slot-*"))

    asyncio.run(play())

    async def score() -> None:
        async with Scorer(SubprocessSandbox(), CONFIG, tmp_path) as scorer:
            left = scorer.folder()
            (left / "layer").mkdir(), (left / "scratch").mkdir()
            await scorer.run(Verification(torn, left))

    with pytest.raises(Undecided, match=r"torn\.sif does not start here"):
        asyncio.run(score())


def test_servers_that_an_image_cannot_run_are_one_line(container: Container, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set 'environment.servers=\[terminal,files\]'"):
        played(container, tmp_path, config=replace(CONFIG, servers=["python", "files"]))
    mine = {"mine": schema.McpServer(command=["python3", "server.py"])}
    with pytest.raises(InputError, match="no server of yours runs in the images of tasks"):
        played(container, tmp_path, config=replace(CONFIG, mcp=mine))
    path = os.environ["PATH"]
    os.environ["PATH"] = "/usr/bin"
    try:
        with pytest.raises(InputError, match="the tasks bring images: no apptainer on PATH"):
            played(container, tmp_path)
    finally:
        os.environ["PATH"] = path
