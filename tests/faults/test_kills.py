"""SIGKILL at every durable write point: whatever is half done then, the next start goes on, and nothing shows."""

import shutil
import time
from collections.abc import Callable

import psutil
import pytest
import strace
from trial import LEASE, Trial

from aworld.publish import is_complete

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(1800), strace.needed]
OURS = "AWORLD_TEST_OF_FAULTS"
Fresh = Callable[[str], Trial]


@pytest.mark.parametrize(
    ("call", "on"),
    [
        ("fsync", {"rounds/#/journals", "rounds/#/journals/worker-#.journal", "rounds/#/claims/.train-#.#.done.tmp"}),
        ("fdatasync", {"rounds/#/journals/worker-#.journal"}),
        ("ftruncate", {"locks/rollout-#-#.lock", "rounds/#/journals/worker-#.journal"}),
        ("/^rename", {"rounds/#/claims/.train-#.#.done.tmp"}),
    ],
)
def test_a_worker_killed_at_each_of_its_calls(call: str, on: set[str], after: Fresh, undisturbed: Trial) -> None:
    trial = after("prepare")
    threads = ["-f"] if call == "fdatasync" else []  # a record is written in a thread; each counts for itself
    ends = strace.kill_again_and_again(trial.words("rollout"), call, trial.run.root, *threads)
    assert on <= set(ends)
    trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()


def test_a_worker_killed_at_each_write_to_its_journal(after: Fresh, undisturbed: Trial) -> None:
    trial = after("prepare")
    # The header is written by the main thread, a record by another one; each thread counts for itself.
    where = ["-f", "-P", str(trial.journal)]
    ends = strace.kill_again_and_again(trial.words("rollout"), "write", trial.run.root, *where)
    assert len(ends) >= 2  # the header, and then a record at least
    trial.finish("gather")
    assert trial.gathered() == undisturbed.gathered()


@pytest.mark.parametrize("call", ["openat", "write"])
def test_a_worker_killed_while_it_makes_a_claim(call: str, after: Fresh, undisturbed: Trial) -> None:
    """Before the claim is there, and when it is there and says nothing of its owner."""
    trial = after("prepare")
    first = next(line for line in claims(undisturbed) if line.endswith(".1.claim"))
    path = trial.run.round(0) / "claims" / first
    done = strace.run_aworld(trial.words("rollout"), f"{call}:signal=SIGKILL:when=1", "-P", str(path))
    assert done.returncode == -9
    assert path.exists() is (call == "write")
    time.sleep(LEASE + 1)  # a claim that names no owner is free after its lease
    trial.finish("rollout", "gather")
    assert trial.gathered() == undisturbed.gathered()


def claims(trial: Trial) -> list[str]:
    return sorted(path.name for path in (trial.run.round(0) / "claims").iterdir())


@pytest.mark.parametrize("call", ["fsync", "/^rename"])
def test_gathering_killed_at_each_of_its_calls(call: str, after: Fresh, undisturbed: Trial) -> None:
    trial = after("rollout")
    ends = strace.kill_again_and_again(trial.words("gather"), call, trial.run.root, "-f")
    assert {"rounds/#/.trajectories.h#.tmp", "rounds/#/.timing.json.tmp"} <= set(ends)
    assert trial.gathered() == undisturbed.gathered()


def test_training_killed_at_each_rename(after: Fresh, undisturbed: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the metrics and of a policy's mark; the other rank and all helpers end as well."""
    trial = after("gather")
    monkeypatch.setenv(OURS, str(trial.run.root))
    # Each thread counts for itself: the one that publishes the policy renames its folder, and then the mark. On a fresh
    # node the very first rename is that of the folder for compiled code.
    words, folder = trial.words("train"), trial.run.root
    ends = strace.kill_again_and_again(words, "/^rename", folder, "-f", counts=[1, 1, 2], forks=False)
    assert {"rounds/#/.metrics.json.tmp", "policies/#/.COMPLETE.tmp"} <= set(ends)
    trial.assert_trained_like(undisturbed)
    assert not started_with(str(trial.run.root))


def test_training_killed_between_a_policy_and_its_mark(after: Fresh, undisturbed: Trial) -> None:
    trial = after("gather")
    policies = trial.run.policy(0).parent
    killed = strace.run_aworld(trial.words("train"), "fsync:signal=SIGKILL:when=1", "-f", "-P", str(policies))
    assert killed.returncode != 0
    assert trial.run.policy(0).is_dir() and not is_complete(trial.run.policy(0))
    trial.finish("train")
    trial.assert_trained_like(undisturbed)


def test_training_killed_between_a_checkpoint_and_its_mark(after: Fresh, undisturbed: Trial) -> None:
    """A checkpoint without a mark is none."""
    trial = after("gather")
    killed = strace.run_aworld(
        trial.words("train"), "fsync:signal=SIGKILL:when=1", "-f", "-P", str(trial.run.checkpoints)
    )
    assert killed.returncode != 0
    (torn,) = trial.run.checkpoints.glob("round-*")
    assert not is_complete(torn)
    shutil.rmtree(trial.run.policy(0))  # it was published before
    trial.finish("train")
    trial.assert_trained_like(undisturbed)


def started_with(mark: str) -> list[list[str]]:
    """The commands of all processes that have this test's mark in their environment."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get(OURS) == mark:
            found.append(process.info["cmdline"])
    return found
