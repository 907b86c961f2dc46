"""The trainer in bf16 in one process, with and without a setting that must change no result; a line of JSON.

One argument, JSON:
    path: HF folder.
    sampled: HDF5 file of trajectories.
    out: an existing folder, for the exports.
    steps: optimizer steps to make.

For each variant: `parameters`, a number; `difference`, of the exported weights from those of the plain trainer, the
largest; `between`, bytes allocated on the GPU after the steps (0 on a CPU).
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import in_layout
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from aworld.config import Parallel
from aworld.training import model
from aworld.training.step import Trainer
from aworld.trajectories import file

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "offload": {"offload": True},
    "selective": {"recompute": "selective"},
    "full": {"recompute": "full"},
}


def main() -> None:
    words = json.loads(sys.argv[1])
    torch.use_deterministic_algorithms(True, warn_only=True)
    model.initialize(Parallel(), 0, 300)
    path, out, trajectories = Path(words["path"]), Path(words["out"]), file.read(Path(words["sampled"]))
    found = {}
    for name, settings in VARIANTS.items():
        trainer = Trainer(in_layout.TRAINING, path, "bfloat16", in_layout.TRAINING.lr, **settings)
        in_layout.steps(trainer, path, trajectories, 0, words["steps"])
        gc.collect()
        between = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
        in_layout.export(trainer, path, out / name)
        plain, this = (load_file(out / kind / "model.safetensors") for kind in ("plain", name))
        difference = max((plain[key].float() - this[key].float()).abs().max().item() for key in plain)
        parameters = sum(parameter.numel() for parameter in trainer.module.parameters())
        found[name] = {"parameters": parameters, "difference": difference, "between": between}
        del trainer
        gc.collect()
    print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
