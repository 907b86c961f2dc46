"""`vllm serve`, of whose processes none outlives the one that started it, however that one ends."""

import os
import runpy

from aworld.processes import die_with_parent, die_with_starter

die_with_starter()
die_with_parent()  # a process that vLLM spawns imports this module again
os.register_at_fork(after_in_child=die_with_parent)  # one that it forks does not

if __name__ == "__main__":
    # Not the command `vllm`: it asks for a package of that name, and the CPU build has another.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
