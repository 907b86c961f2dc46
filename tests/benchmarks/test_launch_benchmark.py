"""What the benchmark of a launch counts: Slurm's requests, and a worker's file operations."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import first_token
import launch
import strace
from launch import answered, touches

from aworld import config as configuration
from aworld.errors import TaskError
from aworld.launch import script
from aworld.launch.arrays import arrays
from aworld.rundir import RunDir
from aworld.stages import ROLLOUT, Stage

SDIAG = """
Main schedule statistics (microseconds):
	Last cycle:   71
	Total cycles: 2
Remote Procedure Call statistics by message type
	REQUEST_SUBMIT_BATCH_JOB                ( 4003) count:2      ave_time:921    total_time:1842
	REQUEST_COMPLETE_BATCH_SCRIPT           ( 5018) count:100    ave_time:92     total_time:9200
	REQUEST_JOB_INFO                        ( 2003) count:7      ave_time:92     total_time:644
Remote Procedure Call statistics by user
	root            (       0) count:109    ave_time:92     total_time:9200
Pending RPC statistics
	No pending RPCs
"""


@pytest.mark.unit
def test_the_requests_of_all_types_but_those_of_the_benchmark_count() -> None:
    assert answered(SDIAG) == {"REQUEST_SUBMIT_BATCH_JOB": 2, "REQUEST_COMPLETE_BATCH_SCRIPT": 100}


@pytest.mark.unit
def test_a_call_that_another_interrupts_counts_once() -> None:
    lines = [
        '7 openat(AT_FDCWD</>, "/runs/run/claims/a", O_RDONLY <unfinished ...>',
        '8 newfstatat(AT_FDCWD</>, "/runs/run", {st_mode=S_IFDIR|0755, ...}, 0) = 0',
        '8 newfstatat(AT_FDCWD</>, "/usr/lib", {st_mode=S_IFDIR|0755, ...}, 0) = 0',
        "7 <... openat resumed>) = 5</runs/run/claims/a>",
    ]
    assert launch.calls_on(Path("/runs/run"), lines) == 2


@pytest.mark.unit
def test_an_element_runs_true_in_the_place_of_its_worker(tmp_path: Path) -> None:
    config = configuration.load(["recipe=demo", "site=test-cluster", f"runs={tmp_path}", "name=run"])
    stage = Stage.of(ROLLOUT, config, RunDir(tmp_path / "run"), 0)
    (array,) = arrays(config.site, stage)
    text = script.script(config.site, stage, array, [])
    ours = f"{sys.executable} -u -m aworld rollout"
    assert ours in text
    shortened = launch.without_worker(text)
    assert shortened == text.replace(ours, "true rollout")
    with pytest.raises(TaskError, match="cannot take its place"):
        launch.without_worker(shortened)


@pytest.mark.unit
def test_a_start_is_compared_with_a_bare_vllm_and_with_a_tuned_one() -> None:
    ours = {"worker": 3.0, "vLLM": 11.0, "first token": 12.0}
    found = {"pipeline.py": [ours], "a bare vLLM": [{"vLLM": 9.0, "first token": 10.0}]}
    found["a tuned vLLM"] = [{"vLLM": 5.0, "first token": 6.0}]
    values = {figure.name: (figure.value, figure.is_met) for figure in first_token.figures_of(found)}
    assert values["seconds to the first token, pipeline.py / a bare vLLM"] == (1.2, False)
    assert values["seconds to the first token, pipeline.py / a tuned vLLM"] == (2.0, True)
    steps, _ = first_token.says_of(found)
    assert "worker 3.0 s, vLLM 8.0 s, first token 1.0 s" in steps and "after 9.0 s, the tuned one after 5.0 s" in steps


@pytest.mark.unit
def test_a_part_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.py", "foo"])
    with pytest.raises(SystemExit):
        launch.main()
    assert "no such part: foo; there are start, array, files" in capsys.readouterr().err


@pytest.mark.tools
@strace.needed
def test_a_worker_leaves_few_files_for_each_episode() -> None:
    calls, left = touches(6, 2)
    more_calls, more_left = touches(12, 2)
    assert 0 < more_calls - calls < 30 * 6
    assert 6 <= more_left - left <= 2 * 6  # a claim, and a mark that it is done
