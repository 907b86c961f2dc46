"""What a rank of the trainer imports before it computes, as `aworld.training.rank` does it."""

import atexit
import gc
import warnings

from aworld.imports import enter_without_running, without_collecting
from aworld.training import cpu

warnings.filterwarnings("ignore", module="megatron")
cpu.spare_the_compiler()
enter_without_running("mbridge", "models")
with without_collecting():
    import aworld.training.stage  # noqa: F401
atexit.register(gc.unfreeze)  # else Triton complains in the end of what is left
