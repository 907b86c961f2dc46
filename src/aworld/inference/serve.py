"""`vllm serve`, whose processes end with the process that started it, however that one ends."""

import os

from aworld.imports import without, without_collecting, without_listing_packages
from aworld.processes import ON_CPU, die_with_parent, die_with_starter

# vLLM can do without these: the compiler, which it only prepares here, the filters of audio, and a tracer. A CPU serves
# text and compiles nothing.
NEEDLESS_ON_CPU = ("torch._inductor.lowering", "scipy", "opentelemetry")

die_with_starter()
die_with_parent()  # a process that vLLM spawns imports this module again
os.register_at_fork(after_in_child=die_with_parent)  # one that it forks does not

if __name__ == "__main__":
    needless = NEEDLESS_ON_CPU if ON_CPU in os.environ else ()
    with without_collecting(), without_listing_packages(), without(*needless):
        # Not the command `vllm`: it asks for a package of that name, and the CPU build has another.
        from vllm.entrypoints.launchers.api_server.entry import main
    main()
