"""What the benchmark of a launch counts: Slurm's requests, and a worker's file operations."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import strace
from launch import answered, touches

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


@pytest.mark.tools
@strace.needed
def test_a_worker_leaves_few_files_for_each_episode() -> None:
    calls, left = touches(6, 2)
    more_calls, more_left = touches(12, 2)
    assert 0 < more_calls - calls < 30 * 6
    assert 6 <= more_left - left <= 2 * 6  # a claim, and a mark that it is done
