"""Where no sandbox works, the policy's code runs only where that was said, or where it harms nobody else."""

import pytest

from aworld import config as configuration
from aworld.environments.sandbox import BubblewrapSandbox, SubprocessSandbox
from aworld.errors import InputError
from aworld.rollout.stage import check_contained

pytestmark = pytest.mark.unit


def test_on_slurm_a_plain_process_has_to_be_asked_for() -> None:
    config = configuration.load(["recipe=demo", "site.executor=slurm"])
    check_contained(config, BubblewrapSandbox(), [])
    with pytest.raises(InputError, match=r"no sandbox works on node .*; set .* or allow it with site.sandbox=subproc"):
        check_contained(config, SubprocessSandbox(), [])
    config.site.sandbox = "subprocess"
    check_contained(config, SubprocessSandbox(), [])


def test_on_ones_own_machine_it_does_not() -> None:
    check_contained(configuration.load(["recipe=demo"]), SubprocessSandbox(), [])
