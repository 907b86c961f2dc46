"""An evaluation of 60 items × 2 attempts as a Slurm array, killed and resumed at random."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from cluster import Cluster
from killer import Killer
from pyarrow import parquet
from small_run import Run, aworld, copy

from aworld.evaluation import benchmark
from aworld.rollout.claims import Claims
from aworld.tasks import make_source
from aworld.tasks.synthetic import SyntheticTasks
from aworld.trajectories import journal
from aworld.trajectories.episode import STATUSES, Episode

pytestmark = [pytest.mark.cluster, pytest.mark.deep, pytest.mark.timeout(3600)]
NAME, ITEMS, ATTEMPTS, KILLS, WORKERS = "gaia-validation", 60, 2, 15, 2
Attempt = tuple[str, int]


def made_up_copy(run: Run, folder: Path) -> Path:
    """In GAIA's layout. Every other question the policy has learnt by heart, the rest is new to it."""
    config = run.config
    learnt = list(make_source(config.tasks, run.dir.tasks).tasks("train"))
    new = list(SyntheticTasks(replace(config.tasks, held_out=ITEMS // 2), folder / "new").tasks("held_out"))
    assert len({task.question for task in learnt + new}) >= 40
    split = folder / "2023" / "validation"
    split.mkdir(parents=True)
    rows = []
    for number in range(ITEMS):
        task = new[number // 2] if number % 2 else learnt[number // 2 % len(learnt)]
        name = task.files[0].name if task.files else ""
        if name:
            (split / name).write_bytes(task.files[0].read_bytes())
        rows.append(
            {
                "task_id": f"{number:08x}-made-up",
                "Question": task.question,
                "Level": str(task.level),
                "Final answer": task.answer,
                "file_name": name,
                "file_path": f"2023/validation/{name}" if name else "",
            }
        )
    parquet.write_table(pyarrow.Table.from_pylist(rows), split / "metadata.parquet")
    return folder


def evaluate(run: Run, *words: str) -> None:
    run.launch("evaluate", 0, f"tasks={NAME}", *words)


def records(run: Run) -> dict[Attempt, Episode]:
    episodes = journal.collect(run.dir.evaluation(NAME, 0) / "journals")
    return {(episode.task_id, episode.attempt): episode for episode in episodes}


def written(run: Run) -> list[Episode]:
    """Every record of every journal, doubles included."""
    paths = (run.dir.evaluation(NAME, 0) / "journals").glob("*.journal")
    return [episode for path in paths for episode in journal.read(path)]


def counts(run: Run) -> Counter[Attempt]:
    return Counter((episode.task_id, episode.attempt) for episode in written(run))


def done_tasks(run: Run) -> set[str]:
    """Those of whose unit the end is marked."""
    names = Claims(run.dir.evaluation(NAME, 0) / "claims", "", 0.0).marks().done
    return {name.partition(".")[0] for name in names}


def taken_again(run: Run) -> set[str]:
    """The tasks whose unit was claimed more than once."""
    claims = (run.dir.evaluation(NAME, 0) / "claims").glob("*.claim")
    return {path.name.partition(".")[0] for path in claims if not path.name.endswith(".1.claim")}


def outcome(episode: Episode) -> tuple[Any, ...]:
    said = [(turn.role, turn.text, turn.tool, turn.arguments, turn.is_error) for turn in episode.turns]
    return (episode.answer, episode.status, episode.reward, episode.mask, said)


def test_an_evaluation_array_under_a_random_killer(cluster: Cluster, trained: Run, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    run.change("pipeline.rounds=0", "pipeline.evaluations=[]", "pipeline.max_restarts=20")
    begun = [f"tasks.path={made_up_copy(run, tmp_path / 'gaia')}", f"evaluation.attempts={ATTEMPTS}"]
    begun += ["environment.servers=[python,files,documents]"]
    begun += ["environment.slots=6", "rollout.lease_seconds=30", "agent.episode_seconds=900"]  # on a busy machine too
    undisturbed = copy(run, tmp_path / "undisturbed")
    evaluate(undisturbed, *begun, "site.evaluate.elements=1")
    undisturbed.wait_for_jobs(1800)
    expected = records(undisturbed)
    assert expected.keys() == {(f"{n:08x}-made-up", a) for n in range(ITEMS) for a in range(ATTEMPTS)}
    assert set(counts(undisturbed).values()) == {1}

    killer = Killer(cluster, seed=3)
    struck: list[tuple[set[str], Counter[Attempt]]] = []  # what was done, and recorded, before each kill

    def due(kills: int) -> bool:
        """At the evaluation's own pace, however fast it is here; with something of it running, and something left."""
        done = done_tasks(run)
        if not kills * ITEMS // (KILLS + 5) < len(done) < ITEMS or not killer.jobs("RUNNING"):
            return False
        struck.append((done, counts(run)))
        return True

    evaluate(run, *begun, f"site.evaluate.elements={WORKERS}")
    killer.run_to_the_end(run, every=0.5, kills=KILLS, seconds=2400, resume=lambda: evaluate(run), due=due)
    assert KILLS // 2 <= killer.kills.total() <= len(struck)  # a fast machine is done before it was struck as often
    starts = [p.read_text().count("\n") for p in run.dir.starts.glob(f"evaluate-{NAME}-*.jsonl")]
    assert sum(starts) > WORKERS  # and some had to begin again
    found, all_of_them, last = records(run), counts(run), written(run)
    failed = {(e.task_id, e.attempt) for e in last if e.status == "infra_error"}  # these a resume plays again
    for done, before in struck:
        assert {a: n for a, n in before.items() if a[0] in done and a not in failed and all_of_them[a] != n} == {}
    doubled = {attempt for attempt, count in all_of_them.items() if count > 1} - failed
    assert {task for task, _ in doubled} <= taken_again(run)
    assert all(all_of_them[attempt] == 2 for attempt in doubled) and len(doubled) <= KILLS
    assert found.keys() == expected.keys()
    assert all(found[key].seed == expected[key].seed for key in found)
    same = [key for key in found if found[key].token_ids == expected[key].token_ids]
    assert len(same) >= 0.97 * len(found)  # another batch may round otherwise, and once in a blue moon a token follows
    assert all(outcome(found[key]) == outcome(expected[key]) for key in same)
    source = benchmark.played(run.dir, NAME, 0).source
    tasks = {task.task_id: task for task in source.tasks("held_out")}
    for key, episode in found.items():  # those others as well are whole
        assert episode.status in STATUSES and (episode.answer is None) == (episode.status != "answered")
        assert episode.reward == source.reward(episode, tasks[key[0]], None)
        assert sum(episode.mask) > 0 and len(episode.mask) == len(episode.token_ids) == len(episode.logprobs)
    assert "infra_error" not in {episode.status for episode in found.values()}
    done = aworld("eval", "report", str(run.dir.root), NAME, "0")
    assert done.returncode == 0 and f"{ITEMS} tasks × {ATTEMPTS}" in done.stdout, done.stderr
    figures = json.loads((run.dir.evaluation(NAME, 0) / "report.json").read_text())
    assert figures["pass_at_1"] == pytest.approx(sum(e.reward for e in found.values()) / (ITEMS * ATTEMPTS))
    assert 0 < figures["pass_at_1"] < figures["pass_at_k"][-1] < 1
