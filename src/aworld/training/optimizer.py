"""Megatron's distributed optimizer over Adam, repaired for checkpoints where Adam is PyTorch's own.

Megatron prefers the fused Adam of Transformer Engine or Apex. Without them it takes `torch.optim.AdamW`, for which
megatron-core 0.16.1 has three faults:

- a state that does not exist before the first step cannot be loaded: `build` makes it, zero, from the start;
- `load_state_dict` gives all parameters one shared `step` tensor: AdamW advances it once per parameter, and its bias
  correction is silently wrong after a resume;
- loading stops at the missing `step` of a parameter's tensors, which `load_state_dict` has restored already.

Its update is PyTorch's fused one, which makes one pass over the tensors and no temporary ones.
"""

import torch
from megatron.core.distributed import DistributedDataParallel
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

from aworld.config import Training


def build(training: Training, lr: float, model: DistributedDataParallel, dtype: torch.dtype) -> MegatronOptimizer:
    """A fresh optimizer (moments zero) with learning rate `lr`. Vectors have no weight decay, as in Megatron."""
    config = OptimizerConfig(
        optimizer="adam",
        lr=lr,
        min_lr=lr,
        weight_decay=training.weight_decay,
        adam_beta1=training.adam_beta1,
        adam_beta2=training.adam_beta2,
        adam_eps=training.adam_eps,
        clip_grad=training.clip_grad,
        bf16=dtype is torch.bfloat16,
        params_dtype=dtype,
        use_distributed_optimizer=True,
    )
    optimizer = get_megatron_optimizer(config, [model])
    for group in optimizer.param_groups:  # Megatron's scheduler would do this; the learning rate is set for each step
        group["weight_decay"] = training.weight_decay * group["wd_mult"]
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        if isinstance(part.optimizer, torch.optim.AdamW):
            _repair(part)
    return optimizer


def parts(optimizer: MegatronOptimizer) -> list[DistributedOptimizer]:
    """The optimizers that it consists of. Each has its moments of Adam, zero before the first step."""
    found = getattr(optimizer, "chained_optimizers", [optimizer])
    for part in found:
        if not part.optimizer.state:  # Transformer Engine's Adam makes them in its first step
            part.load_state_dict(part.state_dict())  # makes room
            for moments in part.optimizer.state.values():
                for name in ("exp_avg", "exp_avg_sq"):
                    moments[name].zero_()
    return found


def _repair(part: DistributedOptimizer) -> None:
    adam = part.optimizer
    for group in adam.param_groups:
        group["fused"] = True
        for parameter in group["params"]:
            moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            adam.state[parameter] = {"step": torch.tensor(0.0, device=parameter.device), **moments}
    load = part.load_state_dict

    def load_state_dict(state: dict) -> None:
        load(state)
        for moments in adam.state.values():
            moments["step"] = moments["step"].clone()

    @torch.no_grad()
    def set_states(model_param: torch.nn.Parameter, tensors: dict[str, torch.Tensor]) -> None:
        group, order = part.model_param_group_index_map[model_param]
        main = adam.param_groups[group]["params"][order]
        main.copy_(tensors["param"])
        for name in ("exp_avg", "exp_avg_sq"):
            adam.state[main][name].copy_(tensors[name])

    part.load_state_dict = load_state_dict
    part._set_main_param_and_optimizer_states = set_states
