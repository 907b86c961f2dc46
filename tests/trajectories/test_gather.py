import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InfrastructureError, TaskError
from aworld.rundir import RunDir
from aworld.trajectories import journal
from aworld.trajectories.episode import Turn
from aworld.trajectories.journal import Journal
from aworld.trajectories.launch import run_gather

pytestmark = pytest.mark.engine

FORMAT_1 = Path(__file__).parent / "data" / "format-1.journal"


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def gather(config: Config, run: RunDir, ranks: int = 2, episodes: int | None = None) -> Path:
    config.site.gather.tasks_per_node = ranks
    run_gather(config, run, 1, len(journal.collect(run.round(1) / "journals")) if episodes is None else episodes)
    return run.trajectories(1)


@pytest.fixture
def demo() -> Config:
    return configuration.load(["recipe=demo"])


def write(run: RunDir, name: str, episodes) -> None:
    with Journal(run.round(1) / "journals" / f"{name}.journal") as log:
        for episode in episodes:
            log.append(episode)


def contents(path: Path) -> dict:
    """Read by hand, with nothing of ours: identity → tokens, mask, log-probabilities, reward, status."""
    with h5py.File(path) as f:
        offsets, owned = f["offsets"][()], f["context_offsets"][()]
        return {
            (row["task_id"].decode(), int(row["attempt"])): (
                f["tokens"][offsets[e] : offsets[e + 1]].tolist(),
                f["mask"][offsets[e] : offsets[e + 1]].tolist(),
                f["logprobs"][offsets[e] : offsets[e + 1]].tolist(),
                float(row["reward"]),
                row["status"].decode(),
                [(c["agent"].decode(), int(c["start"])) for c in f["contexts"][owned[e] : owned[e + 1]]],
            )
            for e, row in enumerate(f["episodes"][()])
        }


def expected(episodes) -> dict:
    return {
        (e.task_id, e.attempt): (
            e.token_ids,
            e.mask,
            np.array(e.logprobs, np.float32).tolist(),
            e.reward,
            e.status,
            [(c.agent, c.start) for c in e.contexts],
        )
        for e in episodes
    }


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_all_episodes_of_all_journals_are_there_once(demo, run, episode, ranks):
    played = [episode(f"task-{n}", a, length=5 + 7 * n + a) for n in range(5) for a in range(3)]
    write(run, "worker-0", played[:4])
    write(run, "worker-1", played[4:])
    write(run, "worker-2", [])
    assert contents(gather(demo, run, ranks)) == expected(played)


def test_gathering_twice_and_from_doubled_journals_gives_the_same_bytes(demo, run, tmp_path, episode):
    played = [episode(f"task-{n}", a) for n in range(4) for a in range(2)]
    write(run, "worker-0", played[:5])
    write(run, "worker-1", played[5:])
    once = gather(demo, run).read_bytes()
    assert gather(demo, run).read_bytes() == once
    other = RunDir(tmp_path / "doubled")
    write(other, "worker-0", [*played[:5], *played[3:5]])
    write(other, "worker-1", [*played[5:], *played[:2]])
    write(other, "worker-9", played)
    assert gather(demo, other, 3).read_bytes() == once


def test_a_finished_episode_wins_over_the_failure_of_another_try(demo, run, episode):
    finished = episode("task-0", 0, length=30)
    write(run, "worker-0", [episode("task-0", 0, status="infra_error", length=9)])
    write(run, "worker-1", [finished])
    assert contents(gather(demo, run)) == expected([finished])


def test_what_rewards_are_made_of_is_averaged_and_what_they_raised_is_counted(demo, run, episode):
    lost = {"status": "infra_error", "length": 9}
    write(run, "worker-0", [episode("task-0", n, reward_parts={"used": float(n)}) for n in range(2)])
    write(run, "worker-1", [episode("task-1", 0, reward_parts={"used": 1.0, "format": 0.25})])
    write(run, "worker-2", [episode("task-1", n, **lost, error="not scored: it raised") for n in range(1, 4)])
    write(run, "worker-3", [episode("task-2", 0, **lost, error="vLLM hung")])
    gather(demo, run, episodes=7)
    found = json.loads((run.round(1) / "rewards.json").read_text())
    assert found == {"parts": {"format": 0.25, "used": pytest.approx(2 / 3)}, "not_scored": {"it raised": 3}}


def test_calls_of_tools_and_their_errors_are_counted_once_an_episode(demo, run, episode):
    worked, failed = (Turn("tool", "shown", "python", {}, is_error=wrong) for wrong in (False, True))
    unfinished = Turn("assistant", "cut", is_error=True)  # no call of a tool
    played = [
        episode("task-0", 0, turns=[worked, failed, unfinished]),
        episode("task-0", 1, turns=[failed] * 4, logprobs=[]),  # kept as an infra_error, without its tokens
        episode("task-1", 0, turns=[]),
    ]
    write(run, "worker-0", [*played, played[0]])
    write(run, "worker-1", [episode("task-0", 0, turns=[failed] * 9, status="infra_error"), played[1]])
    gather(demo, run, episodes=3)
    assert json.loads((run.round(1) / "tools.json").read_text()) == {"calls": 6, "errors": 5}


def test_a_torn_journal_is_not_gathered_until_what_is_lost_was_played_again(demo, run, episode):
    played = [episode(f"task-{n}", 0) for n in range(3)]
    write(run, "worker-0", played)
    path = run.round(1) / "journals" / "worker-0.journal"
    os.truncate(path, path.stat().st_size - 3)
    with pytest.raises(TaskError, match="hold 2 of its 3 episodes; play what is missing: aworld resume"):
        gather(demo, run, episodes=3)
    assert not run.trajectories(1).exists()
    write(run, "worker-1", played[2:])
    assert contents(gather(demo, run, episodes=3)) == expected(played)


def test_only_records_that_are_kept_are_read_and_damaged_ones_are_played_again(demo, run, episode, capsys):
    """One journal is of format 1; the damage is in the tokens, where no list shows it."""
    old = [episode(f"task-{n}", n, 12, status="infra_error" if n == 1 else "answered") for n in range(3)]
    finished, twice = episode("task-1", 1), episode("task-3", 0)
    path = run.round(1) / "journals" / "worker-0.journal"
    path.parent.mkdir(parents=True)
    shutil.copy(FORMAT_1, path)
    for name in ("worker-1", "worker-2", "worker-3"):
        write(run, name, [twice])
    write(run, "worker-4", [episode("task-1", 1, status="infra_error"), finished])
    for name, task in {"worker-1": "task-3", "worker-3": "task-3", "worker-4": "task-1"}.items():
        damage(path.with_name(f"{name}.journal"), task)  # of worker-4 the failure, which is not kept
    untouched = {name: path.with_name(f"{name}.journal").read_bytes() for name in ("worker-3", "worker-4")}
    assert contents(gather(demo, run, episodes=4)) == expected([old[0], finished, old[2], twice])
    assert "worker-1.journal: " in (told := capsys.readouterr().err) and "attempt 0 at task-3 is lost" in told
    assert untouched == {name: path.with_name(f"{name}.journal").read_bytes() for name in untouched}
    run.trajectories(1).unlink()
    damage(path.with_name("worker-2.journal"), "task-3")
    with pytest.raises(TaskError, match="hold 3 of its 4 episodes; play what is missing"):
        gather(demo, run, episodes=4)
    write(run, "worker-1", [twice])
    assert contents(gather(demo, run, episodes=4)) == expected([old[0], finished, old[2], twice])


def damage(path: Path, task: str) -> None:
    """Flip a bit in the tokens of the first record of a task."""
    entry = next(entry for entry in journal.list_entries(path).entries if entry.record.task_id == task)
    data = bytearray(path.read_bytes())
    data[entry.body + 9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_trajectories_are_gathered_anew(demo, run, episode, damage, capsys):
    write(run, "worker-0", [episode(f"task-{n}", 0, length=100) for n in range(3)])
    path = gather(demo, run)
    sound = path.read_bytes()
    with h5py.File(path) as f:
        at = f["tokens"].id.get_offset() + 17
    path.write_bytes(
        sound[: len(sound) // 2] if damage == "cut" else sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :]
    )
    assert gather(demo, run).read_bytes() == sound
    assert f"warning: {path}" in capsys.readouterr().err


def test_neither_ranks_nor_pieces_show_in_the_file(demo, run, episode):
    played = [episode(f"task-{n}", 0, length=50 + n) for n in range(4)]
    for n, one in enumerate(played):
        write(run, f"worker-{n}", [one])
    at_once = gather(demo, run, 1).read_bytes()
    run.trajectories(1).unlink()
    program = (
        "from pathlib import Path; from aworld.rundir import RunDir; from aworld.trajectories.gather import gather;"
        f"gather(RunDir(Path({json.dumps(str(run.root))})), 1, 4, chunk=16)"
    )
    mpiexec = Path(sys.executable).with_name("mpiexec")
    words = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", "3", sys.executable, "-c", program]
    subprocess.run(words, check=True, timeout=60)
    assert contents(run.trajectories(1)) == expected(played)
    assert run.trajectories(1).read_bytes() == at_once


def test_nothing_to_gather_and_the_wrong_round_are_said_plainly(demo, run, episode):
    with pytest.raises(TaskError, match="hold 0 of its 1 episodes"):
        gather(demo, run, episodes=1)
    write(run, "worker-0", [episode("task-0", 0, round=2)])
    with pytest.raises(InfrastructureError, match="holds an episode of round 2, not 1"):
        gather(demo, run)
    assert not run.trajectories(1).exists()


@pytest.mark.cluster
def test_ranks_in_an_image_gather_the_same_bytes(demo, run, tmp_path, episode, environment_image):
    played = [episode(f"task-{n}", a) for n in range(4) for a in range(2)]
    other = RunDir(tmp_path / "other")
    for place in (run, other):
        write(place, "worker-0", played[:5])
        write(place, "worker-1", played[5:])
    demo.site.images.megatron, demo.site.bind_python = str(environment_image), True
    assert gather(demo, other, 3).read_bytes() == gather(configuration.load(["recipe=demo"]), run, 3).read_bytes()
