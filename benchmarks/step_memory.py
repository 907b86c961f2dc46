"""The memory of a training step: before it, kept by the layers, and at its peaks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from aworld.training.step import Trainer


class Memory:
    """Measures one step of a trainer.

    Attributes:
        found: bytes. `kept`: by all layers for the backward pass, at their forward pass's end. On a GPU also `state`:
            before the step; `peak_backward`: the highest until the optimizer began; `peak_optimizer`: from there on.
            On a CPU, whose allocator does not count, these are 0, and `kept` sums the tensors that autograd saved.
    """

    def __init__(self, trainer: "Trainer"):
        self.trainer = trainer
        self.found = {"state": 0, "kept": 0, "peak_backward": 0, "peak_optimizer": 0}

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            (self._on_gpu if torch.cuda.is_available() else self._on_cpu)(stack)
            yield

    def _on_gpu(self, stack: ExitStack) -> None:
        decoder, begun = self.trainer.module.decoder, [0]
        # Megatron's optimizer goes around one of PyTorch's kind, which has hooks.
        (outer, *_) = getattr(self.trainer.optimizer, "chained_optimizers", [self.trainer.optimizer])
        optimizer = outer.optimizer

        def before(*_: object) -> None:
            begun[0] = torch.cuda.memory_allocated()

        def after(*_: object) -> None:
            self.found["kept"] = torch.cuda.memory_allocated() - begun[0]

        def steps(*_: object) -> None:
            self.found["peak_backward"] = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()

        def has_stepped(*_: object) -> None:
            self.found["peak_optimizer"] = torch.cuda.max_memory_allocated()

        for handle in (
            decoder.register_forward_pre_hook(before),
            decoder.register_forward_hook(after),
            optimizer.register_step_pre_hook(steps),
            optimizer.register_step_post_hook(has_stepped),
        ):
            stack.callback(handle.remove)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.found["state"] = torch.cuda.memory_allocated()

    def _on_cpu(self, stack: ExitStack) -> None:
        weights = {p.untyped_storage().data_ptr() for p in self.trainer.module.parameters()}
        saved: dict[int, torch.Tensor] = {}  # held, so that no address is used twice
        inside = ExitStack()

        def save(tensor: torch.Tensor) -> torch.Tensor:
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
            return tensor

        def before(*_: object) -> None:
            inside.enter_context(torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor))

        def after(*_: object) -> None:
            inside.close()
            kept = [t.untyped_storage().nbytes() for address, t in saved.items() if address not in weights]
            self.found["kept"] = sum(kept)
            saved.clear()

        decoder = self.trainer.module.decoder
        for handle in (decoder.register_forward_pre_hook(before), decoder.register_forward_hook(after)):
            stack.callback(handle.remove)
