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

def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in (24, 25, 23) * 5:
        torch.zeros(1 << size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

use()
print(use())
"""


def page_faults(memory: str) -> int:
    """Those of tensors of 32 to 128 MiB, one after the other, where such ones were freed before."""
    command = [sys.executable, "-c", PROGRAM, memory]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_there_for_later_tensors() -> None:
    assert page_faults("kept") < page_faults("returned") / 4
