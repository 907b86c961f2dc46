"""Which policies and checkpoints stay, and that a removal can be cut short."""

import itertools
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.cli import main
from aworld.config import Config
from aworld.policies.folder import Deltas
from aworld.publish import IDLE_SECONDS, MARK, is_complete, publish_folder, sweep
from aworld.rundir import HELD_OUT, RunDir
from aworld.training.position import Position, positions
from aworld.training.retention import policies, prune_checkpoints, prune_policies

pytestmark = pytest.mark.unit


def settings(*overrides: str) -> Config:
    return configuration.load(["recipe=demo", "site=local", "pipeline.rounds=24", *overrides])


def save(run: RunDir, config: Config, *written: Position) -> None:
    for position in written:
        publish_folder(run.checkpoints / position.name, lambda where: (where / "shard").write_text("weights"))
        prune_checkpoints(config, run, position)


def publish(run: RunDir, *versions: int) -> None:
    """Policies, each with the round that made it."""
    for version in versions:
        publish_folder(run.policy(version), lambda where: (where / "model.safetensors").write_text("weights"))
        run.round(version).mkdir(parents=True, exist_ok=True)
        run.trajectories(version).touch()


def why(config: Config, run: RunDir) -> dict[int, str]:
    return {int(kept.folder.name): kept.why for kept in policies(config, run)}


def test_the_last_few_checkpoints_stay(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    save(run, settings(), Position(1), Position(2, 7), Position(2, 9), Position(2), Position(3))
    assert positions(run.checkpoints) == [Position(2, 9), Position(2), Position(3)]
    save(run, settings("pipeline.keep_checkpoints.last=1"), Position(4))
    assert positions(run.checkpoints) == [Position(4)]


def test_the_checkpoint_of_each_so_many_th_round_stays(tmp_path: Path) -> None:
    run, config = RunDir(tmp_path), settings("pipeline.keep_checkpoints.last=2", "pipeline.keep_checkpoints.every=3")
    for number in range(1, 9):
        save(run, config, Position(number, 4), Position(number))
    assert positions(run.checkpoints) == [Position(3), Position(6), Position(8, 4), Position(8)]


def test_what_was_just_written_stays_where_an_earlier_round_is_trained_again(tmp_path: Path) -> None:
    """So the round after it can go on, and so can the run from its end."""
    run, config = RunDir(tmp_path), settings()
    end = [Position(number) for number in (22, 23, 24)]
    save(run, config, *end)
    for number in range(1, 6):
        save(run, config, Position(number, 3), Position(number))
        assert positions(run.checkpoints)[-4:] == [Position(number), *end]
    assert positions(run.checkpoints) == [Position(4), Position(5, 3), Position(5), *end]
    save(run, config, Position(25))
    assert positions(run.checkpoints) == [Position(23), Position(24), Position(25)]


def test_a_torn_checkpoint_is_removed_once_nobody_writes_there(tmp_path: Path) -> None:
    run, config = RunDir(tmp_path), settings()
    torn = run.checkpoints / Position(1).name
    save(run, config, Position(1))
    (torn / MARK).unlink()
    save(run, config, Position(2))
    assert torn.exists()  # another may be about to mark it
    long_ago = time.time() - 2 * IDLE_SECONDS
    for path in (torn / "shard", torn):
        os.utime(path, (long_ago, long_ago))
    save(run, config, Position(3))
    assert not torn.exists()


def test_policies_stay_by_the_rule_and_all_of_them_by_default(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish(run, *range(21))
    prune_policies(settings(), run)
    assert run.policies() == list(range(21))
    config = settings("pipeline.keep_policies.last=2", "pipeline.keep_policies.every=8")
    prune_policies(config, run)
    assert run.policies() == [0, 8, 16, 19, 20]
    assert run.lacks(7) and not run.lacks(21)


def test_a_policy_that_a_round_may_play_stays(tmp_path: Path) -> None:
    run, config = RunDir(tmp_path), settings("pipeline.keep_policies.last=1", "pipeline.max_lag=2")
    publish(run, *range(11))
    run.trajectories(8).unlink()  # rounds 8 and 10 are played, or about to be
    run.trajectories(10).unlink()
    assert why(config, run) == {
        **dict.fromkeys(range(1, 5), ""),
        **dict.fromkeys(range(5, 8), "round 8 may play it"),
        **{0: "the first: training begins with it", 8: "round 10 may play it", 9: "round 10 may play it"},
        10: "the newest",
    }


@pytest.mark.parametrize("evaluated", [True, False])
def test_an_evaluated_policy_stays_for_as_long_as_the_rule_says(evaluated: bool, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    config = settings(
        "pipeline.keep_policies.last=1", f"pipeline.keep_policies.evaluated={evaluated}", "pipeline.evaluate_every=4"
    )
    publish(run, *range(11))
    by_hand = run.evaluation("gaia-validation", 6)
    by_hand.mkdir(parents=True)
    before = why(config, run)
    assert [version for version in before if before[version]] == [0, 4, 6, 8, 10]
    assert {before[version] for version in (4, 6, 8)} == {"an evaluation of it is not finished"}
    for folder in (run.evaluation(HELD_OUT, 4), by_hand):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "timing.json").touch()
    after = why(config, run)
    assert (after[4], after[6], after[8]) == (
        *(("evaluated", "evaluated") if evaluated else ("", "")),
        "an evaluation of it is not finished",
    )


def test_what_the_deltas_of_a_kept_policy_apply_to_stays(tmp_path: Path) -> None:
    run, config = RunDir(tmp_path), settings("pipeline.keep_policies.last=2")

    def fill(where: Path, version: int) -> None:
        if version % 4:
            Deltas(version - 1, {}).write(where)

    for version in range(11):
        publish_folder(run.policy(version), partial(fill, version=version))
        run.round(version).mkdir(parents=True)
        run.trajectories(version).touch()
    prune_policies(config, run)
    assert run.policies() == [0, 8, 9, 10]


def test_a_person_sees_what_would_go_and_why_the_rest_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDir(tmp_path / "run")
    publish(run, *range(4))
    save(run, settings(), Position(1), Position(2))
    config = settings("pipeline.keep_policies.last=2", "pipeline.keep_checkpoints.last=1")
    run.config.write_text(configuration.to_yaml(config, {}))
    size = size_of(run.policy(1)) + size_of(run.checkpoints / "round-0001")
    assert main(["prune", str(run.root), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert (
        "stays  policies/0000  (the first: training begins with it)\nstays  policies/0002  (one of the last)\n" in said
    )
    assert f"\ngoes   policies/0001  {size_of(run.policy(1))} bytes\n" in said
    assert said.endswith(f"\n2 would be removed, {size} bytes\n")
    assert run.policies() == [0, 1, 2, 3]
    assert main(["prune", str(run.root)]) == 0
    assert capsys.readouterr().out.endswith(f"\n2 removed, {size} bytes\n")
    assert run.policies() == [0, 2, 3] and positions(run.checkpoints) == [Position(2)]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_removal_that_is_killed_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    run, config = RunDir(tmp_path), settings("pipeline.keep_policies.last=1", "pipeline.keep_checkpoints.last=1")
    for moment in range(1, 40):
        publish(run, *range(4))
        save(run, settings(), Position(1), Position(2))
        signal_ = killed_at(moment, config, run)
        there = [*run.policy(0).parent.glob("[0-9]*"), *run.checkpoints.glob("round-*")]
        assert all(is_complete(path) for path in there), (moment, there)
        assert {run.policy(0), run.policy(3), run.checkpoints / Position(2).name} <= set(there)
        if not signal_:
            break
        assert signal_ == signal.SIGKILL
    assert moment > 10 and run.policies() == [0, 3] and positions(run.checkpoints) == [Position(2)]
    for folder in (run.policy(0).parent, run.checkpoints):
        sweep(folder)  # as the next training does
        assert not list(folder.glob(".*.tmp-*"))


def killed_at(moment: int, config: Config, run: RunDir) -> int:
    """The signal that ends a process which prunes: SIGKILL before its so-many-th change of a folder; 0: it was done."""
    child = os.fork()
    if not child:
        changes = itertools.count(1)

        def die(event: str, _: object) -> None:
            if event in ("os.rename", "os.remove", "os.rmdir") and next(changes) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        prune_policies(config, run)
        prune_checkpoints(config, run)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])
