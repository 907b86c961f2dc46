"""Programs that are forks of a process with Megatron: the rest is that of any other."""

from collections.abc import Callable
from pathlib import Path

import pytest
import warm

pytestmark = pytest.mark.engine

PROGRAM = """
import sys, time
import torch.distributed as dist
dist.init_process_group("gloo")
print(sys.argv[1], dist.get_rank(), dist.get_world_size())
if sys.argv[1] == "fails":
    sys.exit(7) if dist.get_rank() == 1 else time.sleep(600)
"""


def test_a_rank_that_fails_ends_the_others_and_the_test(torchrun: Callable[..., None], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    torchrun(program, 2, "ends")
    with pytest.raises(AssertionError):
        torchrun(program, 2, "fails")


def test_output_and_exit_code_are_the_programs(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import os, sys; print(os.environ['NAME'], sys.argv[1:]); sys.exit(os.environ['NAME'])")
    (alone,) = warm.run(program, "c", variables=[{"NAME": "alone"}])
    assert (alone.stdout, alone.stderr, alone.returncode) == ("alone ['c']\n", "alone\n", 1)
