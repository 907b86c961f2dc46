"""Policies whose writer is killed at each of its calls: nothing torn is ever marked."""

import sys
from pathlib import Path

import pytest
import strace

from aworld.policies.folder import damaged, deltas_in
from aworld.policies.reading import copy_policy
from aworld.rundir import RunDir

pytestmark = [pytest.mark.tools, strace.needed]
PROGRAM = Path(__file__).parents[1] / "policies" / "random_policies.py"


@pytest.mark.parametrize("call", ["fsync", "/^rename"])
def test_a_policy_killed_while_it_is_written_is_not_marked(call: str, tmp_path: Path) -> None:
    run, words = RunDir(tmp_path / "run"), [sys.executable, str(PROGRAM), str(tmp_path / "run")]
    for count in range(1, 40, 3):
        done = strace.run(words, f"{call}:signal=SIGKILL:when={count}", "-f")
        assert all(damaged(run, version) == [] for version in run.policies())
        if done.returncode == 0:
            break
        assert done.returncode == -9
    assert count > 4 and run.policies() == [0, 1]
    assert deltas_in(run.policy(1)) is not None
    copy_policy(run, 1, tmp_path)
