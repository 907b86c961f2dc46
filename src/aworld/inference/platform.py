"""vLLM's CPU platform, whose engine is forked from the server, as on a GPU. vLLM finds it as a platform plugin.

vLLM's own CPU platform starts a new process, which imports all of vLLM once more: nearly half of a server's start.
"""

import os
from typing import Any

from vllm.platforms import cpu_platform_plugin
from vllm.platforms.cpu import CpuPlatform

from aworld.processes import STARTER


def plugin() -> str | None:
    """The platform's name; None with an accelerator, and in a vLLM that is not ours."""
    is_cpu = cpu_platform_plugin() == "vllm.platforms.cpu.CpuPlatform"
    return f"{__name__}.ForkingCpuPlatform" if is_cpu and STARTER in os.environ else None


class ForkingCpuPlatform(CpuPlatform):
    @classmethod
    def check_and_update_config(cls, vllm_config: Any) -> None:
        super().check_and_update_config(vllm_config)
        if vllm_config.parallel_config.world_size == 1:  # else workers bind their threads before they import torch
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
