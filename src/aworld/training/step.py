"""The trainer: one model, its optimizer, and an optimizer step by Megatron's own schedule."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.pipeline_parallel import get_forward_backward_func
from transformers import AutoConfig

from aworld.config import Training
from aworld.errors import TaskError
from aworld.policies.writing import Writer
from aworld.training import batching, conversion, cpu, model, optimizer
from aworld.training.algorithms import Algorithm
from aworld.training.attention import Packed
from aworld.training.collectives import sum_over
from aworld.training.loss import Loss, apply_to_hidden, policy_loss, reduce_metrics, return_logprobs
from aworld.training.micro_batch import MicroBatch
from aworld.training.packing import Inputs, Split
from aworld.training.watched import Watched
from aworld.trajectories.arrays import TrajectorySource


class Trainer:
    """A policy in training, spread over the ranks that `model.initialize` joined. All ranks call every method.

    Args:
        path: the HF folder of the architecture.
        dtype: `float32` or `bfloat16`, of weights and activations; gradients, Adam and log-probabilities are float32.
        lr: the learning rate; `set_lr` changes it.
        has_weights: whether to load the weights in `path`; else they are random until a checkpoint is loaded.
        recompute: `model.recompute`.
        offload: `model.offload_optimizer`; without effect where the device is a CPU.

    Attributes:
        settle: called before weights or optimizer change; it waits until a save has copied them.
    """

    def __init__(
        self,
        training: Training,
        path: Path,
        dtype: str,
        lr: float,
        has_weights: bool = True,
        recompute: str = "none",
        offload: bool = False,
    ):
        self.training = training
        self.offload = offload
        self.settle: Callable[[], object] = lambda: None
        self.policies = Writer(keeps=training.full_policy_every > 1)  # of this rank's share of each
        self.reference: list[torch.Tensor] = []  # the weights of the reference policy, in the host's memory
        self.dtype: torch.dtype = getattr(torch, dtype)
        hf = AutoConfig.from_pretrained(path)
        config = model.transformer_config(hf, self.dtype, recompute)
        self.module = model.build(hf, config)
        if has_weights:
            conversion.load_hf(self.module, path)
        ddp = DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=True)
        self.model = DistributedDataParallel(config, ddp, self.module)
        # The weights of tokens make the loss a mean already: do not divide by the number of tokens.
        config.finalize_model_grads_func = lambda models, _tokens, **kwargs: finalize_model_grads(
            models, None, **kwargs
        )
        config.no_sync_func = self.model.no_sync
        self.schedule = get_forward_backward_func()
        self.new_optimizer(lr)

    def new_optimizer(self, lr: float) -> None:
        """Go on from the present weights with fresh moments of Adam and another learning rate."""
        self.settle()
        self.optimizer: Any = None  # its memory is free before the new one's is taken
        self.optimizer = optimizer.build(self.training, lr, self.model, self.dtype)
        self.module.config.grad_scale_func = self.optimizer.scale_loss
        if self.offload:
            self.optimizer.offload_to_cpu()

    @contextmanager
    def optimizer_here(self) -> Iterator[None]:
        """The optimizer's state on this rank's device; between two uses it may be in the host's memory."""
        if not self.offload:
            yield
            return
        self.optimizer.restore_from_cpu()
        yield
        self.optimizer.offload_to_cpu()

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(
        self,
        micro_batches: Sequence[MicroBatch],
        algorithm: Algorithm,
        temperature: float = 1.0,
        ends_soon: Callable[[], bool] | None = None,
    ) -> dict[str, float]:
        """Make one optimizer step with this rank's micro-batches.

        Args:
            temperature: that the tokens were sampled at; log-probabilities are those of that distribution.
            ends_soon: whether this rank was told to end; then the step is given up, unless it is nearly made.

        Returns:
            Metrics of the whole step, the same on every rank: `loss`; `grad_norm` before clipping; the number of
            trained `tokens`; and as means over them `entropy` (nats) and the algorithm's own. Where the algorithm uses
            the ratio to the sampling policy μ also the mean and maximum of |log π − log μ| (nats), `mismatch_mean` and
            `mismatch_max`, and `kl`, Schulman's k3 estimate of KL(μ‖π) (nats).

        Raises:
            TaskError: the loss or the gradient is not finite.
            Abandoned: the step was given up on all ranks, and changed nothing.
        """
        self.model.zero_grad_buffer()
        self.optimizer.zero_grad()
        metrics = reduce_metrics(self._run(micro_batches, partial(policy_loss, algorithm), temperature, ends_soon))
        self.settle()
        with self.optimizer_here():
            _, grad_norm, _ = self.optimizer.step()
        if not np.isfinite([metrics["loss"], grad_norm]).all():
            raise TaskError(
                f"training diverged: loss {metrics['loss']}, gradient norm {grad_norm}; begin a new run with a lower "
                "training.lr, from a policy of this one: aworld policy export RUN VERSION FOLDER, and model.path=FOLDER"
            )
        return metrics | {"grad_norm": float(grad_norm)}

    def reference_logprobs(
        self,
        path: Path,
        trajectories: TrajectorySource,
        temperature: float = 1.0,
        contexts: np.ndarray | None = None,
        ends_soon: Callable[[], bool] | None = None,
    ) -> np.ndarray:
        """The `logprobs` of another policy of the same architecture, which takes this one's place for the time.

        Its weights are read once, and kept in the host's memory.

        Args:
            path: the HF folder of the other policy, the same in every call.
        """
        self.settle()
        parameters = list(self.module.parameters())
        own = _copies(parameters)
        if self.reference:
            _fill(parameters, self.reference)
        else:
            conversion.load_hf(self.module, path)
            self.reference = _copies(parameters)
        try:
            return self.logprobs(trajectories, temperature, contexts, ends_soon)
        finally:
            _fill(parameters, own)

    def logprobs(
        self,
        trajectories: TrajectorySource,
        temperature: float = 1.0,
        contexts: np.ndarray | None = None,
        ends_soon: Callable[[], bool] | None = None,
    ) -> np.ndarray:
        """Log-probability (nats) of each sampled token under the policy, float32 [N]; 0 elsewhere.

        The data-parallel ranks share the contexts.

        Args:
            temperature: of the distribution that is asked for.
            contexts: indices of contexts with a sampled token; None: all of them.
            ends_soon: whether this rank was told to end.

        Raises:
            Abandoned: a rank was told to end.
        """
        inputs = Inputs.of(trajectories)
        if contexts is None:
            contexts = np.flatnonzero(inputs.lengths > 0)
        ranks, rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
        shares = batching.deal(inputs.lengths[contexts], self.training.micro_batch_tokens, ranks)[rank]
        zeros, device = np.zeros(len(inputs.begins)), cpu.device()
        cuts = [contexts[share] for share in shares]
        batches = batching.MicroBatches(trajectories, inputs, cuts, zeros, zeros, Split.here(), device)
        parts = self._run(batches, return_logprobs, temperature, ends_soon, forward_only=True)
        found = torch.zeros(int(trajectories.offsets[-1]), device=device)
        if parallel_state.is_pipeline_last_stage():
            for places, values in parts:
                found[places] = values
            sum_over(parallel_state.get_data_parallel_group(with_context_parallel=True), found)
        last = parallel_state.get_pipeline_model_parallel_last_rank()
        dist.broadcast(found, last, parallel_state.get_pipeline_model_parallel_group())
        return found.cpu().numpy()

    @cached_property
    def _votes(self) -> dist.ProcessGroup:
        return dist.new_group(backend="gloo")

    def _run(
        self,
        batches: Sequence[MicroBatch],
        loss: Loss,
        temperature: float,
        ends_soon: Callable[[], bool] | None,
        forward_only: bool = False,
    ) -> list[Any]:
        """Forward and backward of all micro-batches; the last result of `loss` for each, None before the last stage."""
        watched = None
        if ends_soon and isinstance(batches, batching.MicroBatches):
            lag = parallel_state.get_pipeline_model_parallel_world_size() + 1
            watched = Watched(batches, ends_soon, self._votes, lag)
        parts = self.schedule(
            forward_step_func=partial(_forward, loss, temperature, self.module),
            data_iterator=watched or iter(batches),
            model=[self.model],
            num_microbatches=len(batches),
            seq_length=0,  # stages tell each other (variable_seq_lengths)
            micro_batch_size=0,
            forward_only=forward_only,
        )
        if watched:
            watched.close()
        return parts or [None] * len(batches)


def _copies(parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.detach().to("cpu", copy=True) for parameter in parameters]


@torch.no_grad()
def _fill(parameters: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _forward(
    loss: Loss, temperature: float, policy: model.Policy, batches: Iterator[MicroBatch], gpt: Any
) -> tuple[torch.Tensor, Any]:
    """The output of this stage for the next micro-batch, and the function from hidden states to the loss."""
    batch = next(batches)
    packed = Packed.of(batch.starts, parallel_state.get_context_parallel_world_size(), batch.tokens.device)
    output = gpt(batch.tokens[None], batch.positions[None], None, packed_seq_params=packed)
    return output, partial(apply_to_hidden, loss, temperature, batch, policy)
