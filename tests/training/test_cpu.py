"""What the trainer changes where it runs on a CPU."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

PROGRAM = """
import resource, sys
import torch
from aworld.training import cpu

if sys.argv[1] == "kept":
    cpu.keep_freed_memory()
tensor = torch.zeros(1 << 26)
del tensor
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
tensor = torch.zeros(1 << 26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(memory: str) -> int:
    """Those of a tensor of 256 MiB that takes the place of a freed one."""
    command = [sys.executable, "-c", PROGRAM, memory]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_freed_tensor_s_memory_is_there_for_the_next_one() -> None:
    assert page_faults("kept") < 100 < page_faults("returned")
